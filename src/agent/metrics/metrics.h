#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sma::metrics {

/// Numbers that the agent has anyway, taken when somebody reads the metrics.
struct AgentNumbers {
  bool serving = false;
  bool target_connected = false;
  uint64_t target_calls = 0;   // JSON-RPC requests sent
  uint64_t target_errors = 0;  // answers with an error
  uint64_t target_lost =
      0;  // requests whose answer was not waited for, or lost with the connection
  uint64_t target_connects = 0;  // connections made
  uint32_t devices = 0;
  uint32_t volumes = 0;
  uint32_t degraded = 0;  // devices and volumes that are not as they should be
};

/// Metrics in Prometheus' text format at http://ADDRESS/metrics. All members are thread-safe.
///
///   sma_calls_total{method,code}          counter
///   sma_call_duration_seconds{method}     histogram
///   sma_serving, sma_target_connected     gauge, 0 or 1
///   sma_target_calls_total, sma_target_errors_total, sma_target_lost_total,
///   sma_target_connects_total
///                                         counter
///   sma_devices, sma_volumes, sma_degraded_objects
///                                         gauge
class Metrics {
 public:
  using Source = std::function<AgentNumbers()>;

  /// Begins to listen on "HOST:PORT" (an IPv6 address in brackets; port 0: a free one) with threads
  /// of its own, in which `source` is called; it must not block. UNAVAILABLE where it cannot
  /// listen. A request that is not whole within 1 s is dropped (civetweb notices within 2 s more),
  /// and fewer than 32 such connections delay nobody.
  static absl::StatusOr<std::unique_ptr<Metrics>> Listen(const std::string& address, Source source);

  ~Metrics();

  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  /// Counts a call that ended.
  void ObserveCall(std::string_view method, absl::StatusCode code,
                   std::chrono::nanoseconds latency);

  uint16_t port() const;

 private:
  class Impl;
  explicit Metrics(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sma::metrics
