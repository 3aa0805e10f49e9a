// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "sma_nvme/session.h"

/// The subcommands. Each prints its results to standard output.
namespace sma::sma_nvme {

/// Prints the discovery log.
absl::Status Discover(const RemoteOptions& remote, bool json);

/// Prints the controller and its namespaces.
absl::Status List(const RemoteOptions& remote, bool json);

struct VerifyOptions {
  std::string namespace_name;  // UUID or NSID; empty: the only namespace
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 64 << 20;  // 0: to the end
  uint32_t io_bytes = 128 << 10;
  uint32_t depth = 16;
};
/// Writes a pattern that is new in each run, reads it back and compares.
absl::Status Verify(const RemoteOptions& remote, const VerifyOptions& options);

struct PerfOptions {
  std::string namespace_name;
  uint32_t io_bytes = 4096;
  uint32_t depth = 32;  // for each connection
  uint32_t connections = 1;
  uint32_t read_percent = 100;
  bool sequential = false;
  double seconds = 5;
  double warm_up_seconds = 0.5;
  bool spin = true;
  int cpu = -1;  // -1: any
  bool json = false;
};
/// Measures the rate and the latency of I/O.
absl::Status Perf(const RemoteOptions& remote, const PerfOptions& options);

}  // namespace sma::sma_nvme
