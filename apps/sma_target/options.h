// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sma::apps {

/// The command-line options of sma-target.
struct TargetOptions {
  std::string rpc_socket = "/var/tmp/spdk.sock";
  bool rpc_server = true;
  std::vector<std::string> rpcs_allowed;  // empty: all
  std::string config_path;
  bool ignore_config_errors = false;
  bool wait_for_rpc = false;
  std::string vhost_dir = "/var/tmp";
  /// Permission bits and group (a name or number; empty: the group of the process) of the
  /// vhost-user and vfio-user sockets.
  uint32_t guest_socket_mode = 0600;
  std::string guest_socket_group;
  std::string pid_file;
  /// One element for each I/O reactor: the core on which it runs, or -1 for any.
  std::vector<int> cores = {-1};
  uint32_t poll_us = 50;
  uint32_t rpc_delay_ms = 0;
  bool io_uring = true;
  std::string log_level = "info";
  /// Options of spdk_tgt that were given but have no effect.
  std::vector<std::string> ignored;
};

/// Parses the command line. Returns the options, or the exit status if the program must exit now:
/// after --help, or after an error, which has been printed.
struct ParsedOptions {
  std::optional<TargetOptions> options;
  int exit_status = 0;
};
ParsedOptions ParseTargetOptions(int argc, const char* const* argv);

/// Parses cores in the format of `--cores` and spdk_tgt's `-m`: a hexadecimal mask (0x5, or 5 with
/// `plain_is_mask`), a list in brackets ([0,2-3]), or a plain number of cores, in which case each
/// core is -1. Returns nullopt for any other text, if no core is named, and for more than 1024
/// cores.
std::optional<std::vector<int>> ParseCores(const std::string& text, bool plain_is_mask);

}  // namespace sma::apps
