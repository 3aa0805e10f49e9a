// SPDX-License-Identifier: Apache-2.0

// sma-nvme: an NVMe/TCP host in user space that inspects, verifies and measures remote subsystems.

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/log.h"
#include "sma_nvme/commands.h"

namespace sma::sma_nvme {
namespace {

void AddRemoteOptions(CLI::App& command, RemoteOptions& remote, bool subsystem_required) {
  command.add_option("-a,--traddr", remote.traddr, "IPv4 or IPv6 address")->capture_default_str();
  command.add_option("-s,--trsvcid", remote.trsvcid, "TCP port")->capture_default_str();
  command.add_option("-n,--subnqn", remote.subnqn, "NQN of the subsystem")
      ->required(subsystem_required);
  command.add_option("-q,--hostnqn", remote.hostnqn, "Host NQN; default: a new one for each run");
  command.add_flag("--hdgst", remote.header_digest, "use header digests");
  command.add_flag("--ddgst", remote.data_digest, "use data digests");
  command.add_option("--timeout", remote.timeout_seconds, "seconds to wait for a response")
      ->capture_default_str()
      ->check(CLI::Range(1, 3600));
}

CLI::Option* AddSize(CLI::App& command, const std::string& name, auto& value,
                     const std::string& help) {
  return command.add_option(name, value, help)
      ->capture_default_str()
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
}

void AddVerify(CLI::App& app, RemoteOptions& remote, absl::Status& status) {
  static VerifyOptions options;
  CLI::App& command =
      *app.add_subcommand("verify", "overwrite a part of a namespace, read it back and compare");
  AddRemoteOptions(command, remote, true);
  command.add_option("--namespace", options.namespace_name,
                     "UUID or NSID; default: the only namespace");
  AddSize(command, "--offset", options.offset_bytes, "first byte");
  AddSize(command, "--size", options.size_bytes, "number of bytes; 0: to the end");
  AddSize(command, "--io-size", options.io_bytes, "bytes for each I/O");
  command.add_option("--depth", options.depth, "outstanding I/Os")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  command.footer("Example: sma-nvme verify -a 192.0.2.1 -n nqn.2016-06.io.spdk:disk0 --size 1G");
  command.callback([&] { status = Verify(remote, options); });
}

void AddPerf(CLI::App& app, RemoteOptions& remote, absl::Status& status) {
  static PerfOptions options;
  static bool sleep = false;
  CLI::App& command = *app.add_subcommand("perf", "measure rate and latency of reads and writes");
  AddRemoteOptions(command, remote, true);
  command.add_option("--namespace", options.namespace_name,
                     "UUID or NSID; default: the only namespace");
  AddSize(command, "--io-size", options.io_bytes, "bytes for each I/O");
  command.add_option("--depth", options.depth, "outstanding I/Os for each connection")
      ->capture_default_str()
      ->check(CLI::Range(1, 4095));
  command.add_option("--connections", options.connections, "number of I/O queues")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  command
      .add_option("--read-percent", options.read_percent,
                  "percentage of reads; the other I/Os overwrite data")
      ->capture_default_str()
      ->check(CLI::Range(0, 100));
  command.add_flag("--sequential", options.sequential, "sequential instead of random addresses");
  command.add_option("--seconds", options.seconds, "duration of the measurement in seconds")
      ->capture_default_str();
  command.add_option("--warm-up", options.warm_up_seconds, "duration of the warm-up in seconds")
      ->capture_default_str();
  command.add_flag("--sleep", sleep, "sleep instead of polling while waiting");
  command.add_option("--cpu", options.cpu, "core to run on");
  command.add_flag("--json", options.json, "print JSON");
  command.footer(
      "Example: sma-nvme perf -a 192.0.2.1 -n nqn.2016-06.io.spdk:disk0 --io-size 4k --depth 128");
  command.callback([&] {
    options.spin = !sleep;
    status = Perf(remote, options);
  });
}

int Main(int argc, char** argv) {
  CLI::App app("An NVMe/TCP host in user space: inspects, verifies and measures remote subsystems.",
               "sma-nvme");
  app.require_subcommand(1);
  RemoteOptions remote;
  absl::Status status;
  bool json = false;

  CLI::App& discover =
      *app.add_subcommand("discover", "print the discovery log of a discovery service");
  RemoteOptions discovery;
  discovery.trsvcid = "8009";
  AddRemoteOptions(discover, discovery, false);
  discover.add_flag("--json", json, "print JSON");
  discover.callback([&] { status = Discover(discovery, json); });

  CLI::App& list = *app.add_subcommand("list", "print a controller and its namespaces");
  AddRemoteOptions(list, remote, true);
  list.add_flag("--json", json, "print JSON");
  list.callback([&] { status = List(remote, json); });

  AddVerify(app, remote, status);
  AddPerf(app, remote, status);

  CLI11_PARSE(app, argc, argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "sma-nvme: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace sma::sma_nvme

int main(int argc, char** argv) {
  sma::base::InitLog("sma-nvme", "warning");
  return sma::sma_nvme::Main(argc, argv);
}
