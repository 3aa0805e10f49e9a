#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sma::apps {

/// What the command line of sma-target says.
struct TargetOptions {
  std::string rpc_socket = "/var/tmp/spdk.sock";
  bool rpc_server = true;
  std::vector<std::string> rpcs_allowed;  // empty: all
  std::string config_path;
  bool ignore_config_errors = false;
  bool wait_for_rpc = false;
  std::string vhost_dir = "/var/tmp";
  /// Permission bits and group (a name or number; empty: the process's) of the sockets of
  /// vhost-user and vfio-user.
  uint32_t guest_socket_mode = 0600;
  std::string guest_socket_group;
  std::string pid_file;
  /// One I/O reactor for each, with the core it runs on; -1: any.
  std::vector<int> cores = {-1};
  uint32_t poll_us = 50;
  uint32_t rpc_delay_ms = 0;
  bool io_uring = true;
  std::string log_level = "info";
  /// Options of spdk_tgt that were given and mean nothing here.
  std::vector<std::string> ignored;
};

/// The options, or the program's exit status when it is to end now (after --help, or a mistake,
/// which is printed).
struct ParsedOptions {
  std::optional<TargetOptions> options;
  int exit_status = 0;
};
ParsedOptions ParseTargetOptions(int argc, const char* const* argv);

/// Cores as `--cores` and spdk_tgt's `-m` take them: a hexadecimal mask (0x5, or 5 with
/// `plain_is_mask`), a list in brackets ([0,2-3]), or a plain count, whose cores are -1. nullopt:
/// none of these, no core, or more than 1024.
std::optional<std::vector<int>> ParseCores(const std::string& text, bool plain_is_mask);

}  // namespace sma::apps
