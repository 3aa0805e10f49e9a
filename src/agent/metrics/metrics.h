// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sma::metrics {

/// The number of devices or volumes that have an unmet condition.
struct UnmetCondition {
  std::string object;     // "device" or "volume"
  std::string condition;  // e.g. "PathsUp"
  uint32_t count = 0;
};

/// Numbers that the agent maintains in any case. They are read whenever the metrics are read.
struct AgentNumbers {
  bool serving = false;
  bool target_connected = false;
  bool record_writable = false;
  uint64_t target_calls = 0;   // JSON-RPC requests sent
  uint64_t target_errors = 0;  // requests answered with an error
  /// Requests that were abandoned, or lost with the connection.
  uint64_t target_lost = 0;
  uint64_t target_connects = 0;  // established connections
  uint32_t devices = 0;
  uint32_t volumes = 0;
  uint32_t degraded = 0;  // devices and volumes with an unmet condition
  std::vector<UnmetCondition> unmet_conditions;
  uint32_t paths_up = 0;  // paths to the storage nodes of all volumes
  uint32_t paths_down = 0;
};

/// Metrics in Prometheus' text format at http://ADDRESS/metrics. All members are thread-safe.
///
///   sma_calls_total{method,code}          counter
///   sma_call_duration_seconds{method}     histogram
///   sma_serving, sma_target_connected, sma_record_writable
///                                         gauge, 0 or 1
///   sma_target_calls_total, sma_target_errors_total, sma_target_lost_total,
///   sma_target_connects_total
///                                         counter
///   sma_devices, sma_volumes, sma_degraded_objects
///                                         gauge
///   sma_unmet_conditions{object,condition}, sma_volume_paths{state}
///                                         gauge
class Metrics {
 public:
  using Source = std::function<AgentNumbers()>;

  /// Listens on "HOST:PORT" (an IPv6 address in brackets; port 0: any free port) with its own
  /// threads, which call `source`. `source` must not block. Returns UNAVAILABLE if it cannot
  /// listen. A request that is not complete within 1 s is dropped (civetweb takes up to 2 s to
  /// notice), and fewer than 32 such connections do not delay other clients.
  static absl::StatusOr<std::unique_ptr<Metrics>> Listen(const std::string& address, Source source);

  /// Ends the connections of clients, and does not wait for them.
  ~Metrics();

  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// Counts a finished call.
  void ObserveCall(std::string_view method, absl::StatusCode code,
                   std::chrono::nanoseconds latency);

  uint16_t port() const;

 private:
  class Impl;
  explicit Metrics(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sma::metrics
