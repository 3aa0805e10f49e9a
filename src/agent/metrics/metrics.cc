#include "agent/metrics/metrics.h"

#include <fmt/format.h>
#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <exception>
#include <utility>
#include <vector>

namespace sma::metrics {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// In seconds, from a call that changes nothing to one that waits for a guest.
const prometheus::Histogram::BucketBoundaries kBuckets = {
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30};

// Each connection has one of the HTTP server's threads until it is answered. A request must be
// whole within the time limit, and a connection serves one request, so those who never finish
// theirs hold a thread for that long at most, and more of them are needed than any reader of
// metrics opens.
std::vector<std::string> ServerOptions(const std::string& address) {
  return {"listening_ports",    address, "num_threads",       "32", "connection_queue",  "256",
          "request_timeout_ms", "1000",  "linger_timeout_ms", "0",  "enable_keep_alive", "no"};
}

/// Turns the agent's numbers into metrics each time they are read.
class NumbersCollector : public prometheus::Collectable {
 public:
  explicit NumbersCollector(Metrics::Source source) : source_(std::move(source)) {}

  std::vector<MetricFamily> Collect() const override {
    AgentNumbers numbers = source_();
    return {
        Gauge("sma_serving", "Whether the health service says SERVING", numbers.serving),
        Gauge("sma_target_connected", "Whether there is a connection to the target",
              numbers.target_connected),
        Counter("sma_target_calls_total", "JSON-RPC requests sent to the target",
                numbers.target_calls),
        Counter("sma_target_errors_total", "Answers of the target with an error",
                numbers.target_errors),
        Counter("sma_target_lost_total", "Requests given up, or lost with the connection",
                numbers.target_lost),
        Counter("sma_target_connects_total", "Connections made to the target",
                numbers.target_connects),
        Gauge("sma_devices", "Devices in the record", numbers.devices),
        Gauge("sma_volumes", "Volumes in the record", numbers.volumes),
        Gauge("sma_degraded_objects", "Devices and volumes in another state than ready",
              numbers.degraded),
    };
  }

 private:
  static MetricFamily Gauge(const char* name, const char* help, uint64_t value) {
    ClientMetric metric;
    metric.gauge.value = static_cast<double>(value);
    return {name, help, MetricType::Gauge, {std::move(metric)}};
  }

  static MetricFamily Counter(const char* name, const char* help, uint64_t value) {
    ClientMetric metric;
    metric.counter.value = static_cast<double>(value);
    return {name, help, MetricType::Counter, {std::move(metric)}};
  }

  const Metrics::Source source_;
};

}  // namespace

class Metrics::Impl {
 public:
  Impl(const std::string& address, Source source)
      : numbers_(std::make_shared<NumbersCollector>(std::move(source))),
        calls_(prometheus::BuildCounter()
                   .Name("sma_calls_total")
                   .Help("Calls answered, by method and code")
                   .Register(*registry_)),
        durations_(prometheus::BuildHistogram()
                       .Name("sma_call_duration_seconds")
                       .Help("Time from a call's arrival to its answer, by method")
                       .Register(*registry_)),
        exposer_(ServerOptions(address)) {
    exposer_.RegisterCollectable(registry_);
    exposer_.RegisterCollectable(numbers_);
  }

  void ObserveCall(std::string_view method, absl::StatusCode code,
                   std::chrono::nanoseconds latency) {
    std::string name(method);
    calls_.Add({{"method", name}, {"code", absl::StatusCodeToString(code)}}).Increment();
    durations_.Add({{"method", name}}, kBuckets)
        .Observe(std::chrono::duration<double>(latency).count());
  }

  uint16_t port() const { return static_cast<uint16_t>(exposer_.GetListeningPorts().front()); }

 private:
  std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  std::shared_ptr<NumbersCollector> numbers_;
  prometheus::Family<prometheus::Counter>& calls_;
  prometheus::Family<prometheus::Histogram>& durations_;
  prometheus::Exposer exposer_;  // goes first: its threads use all else
};

Metrics::Metrics(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Metrics::~Metrics() = default;

absl::StatusOr<std::unique_ptr<Metrics>> Metrics::Listen(const std::string& address,
                                                         Source source) {
  try {
    auto impl = std::make_unique<Impl>(address, std::move(source));
    return std::unique_ptr<Metrics>(new Metrics(std::move(impl)));
  } catch (const std::exception& error) {
    return absl::UnavailableError(
        fmt::format("metrics: cannot listen on {}: {}", address, error.what()));
  }
}

void Metrics::ObserveCall(std::string_view method, absl::StatusCode code,
                          std::chrono::nanoseconds latency) {
  impl_->ObserveCall(method, code, latency);
}

uint16_t Metrics::port() const { return impl_->port(); }

}  // namespace sma::metrics
