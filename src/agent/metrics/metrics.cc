// SPDX-License-Identifier: Apache-2.0

#include "agent/metrics/metrics.h"

#include <dirent.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

namespace sma::metrics {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// Bucket limits in seconds, for calls that change nothing up to calls that wait for a guest.
const prometheus::Histogram::BucketBoundaries kBuckets = {
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30};

// Each connection occupies a thread of the HTTP server until it is answered. A request must be
// complete within the time limit, and a connection serves one request, so a client that never
// completes its request holds a thread only for that time. There are more threads than connections
// that any metrics client opens.
std::vector<std::string> ServerOptions(const std::string& address) {
  return {"listening_ports",    address, "num_threads",       "32", "connection_queue",  "256",
          "request_timeout_ms", "1000",  "linger_timeout_ms", "0",  "enable_keep_alive", "no"};
}

// Returns why an address of the form HOST:PORT cannot be used, which the HTTP server does not tell;
// empty if it can.
std::string WhyNotBound(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return {};
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found);
  if (error != 0) return gai_strerror(error);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> list(found, freeaddrinfo);
  std::string why;
  const int fd = ::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int one = 1;
  if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
      ::bind(fd, list->ai_addr, list->ai_addrlen) != 0 || ::listen(fd, 1) != 0) {
    why = std::strerror(errno);
  }
  if (fd >= 0) ::close(fd);
  return why;
}

// Returns the local TCP port of a socket; 0 if the descriptor is something else.
uint16_t LocalPort(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  if (address.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in&>(address).sin_port);
  if (address.ss_family != AF_INET6) return 0;
  return ntohs(reinterpret_cast<sockaddr_in6&>(address).sin6_port);
}

// Ends the listening sockets of a port and the connections to it. The HTTP server would otherwise
// wait for each connection until its time limit, and it does not give access to them.
void ShutDownSockets(uint16_t port) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc/self/fd"), ::closedir);
  if (!folder) return;
  while (const dirent* entry = ::readdir(folder.get())) {
    const int fd = std::atoi(entry->d_name);  // "." and "..": standard input, which has no port
    if (port != 0 && LocalPort(fd) == port) ::shutdown(fd, SHUT_RDWR);
  }
}

/// Converts the agent's numbers to metrics each time they are read.
class NumbersCollector : public prometheus::Collectable {
 public:
  explicit NumbersCollector(Metrics::Source source) : source_(std::move(source)) {}

  std::vector<MetricFamily> Collect() const override {
    AgentNumbers numbers = source_();
    return {
        Gauge("sma_serving", "1 if the health service reports SERVING", numbers.serving),
        Gauge("sma_target_connected", "1 if the agent is connected to the target",
              numbers.target_connected),
        Gauge("sma_record_writable", "1 if the last write of the agent's record succeeded",
              numbers.record_writable),
        Counter("sma_target_calls_total", "JSON-RPC requests sent to the target",
                numbers.target_calls),
        Counter("sma_target_errors_total", "Error responses of the target", numbers.target_errors),
        Counter("sma_target_lost_total", "Requests abandoned, or lost with the connection",
                numbers.target_lost),
        Counter("sma_target_connects_total", "Connections established to the target",
                numbers.target_connects),
        Gauge("sma_devices", "Devices in the record", numbers.devices),
        Gauge("sma_volumes", "Volumes in the record", numbers.volumes),
        Gauge("sma_degraded_objects", "Devices and volumes that are not ready", numbers.degraded),
        UnmetConditions(numbers.unmet_conditions),
        LabelledGauge(
            "sma_volume_paths", "Paths to the storage nodes of volumes, by state",
            {{{{"state", "up"}}, numbers.paths_up}, {{{"state", "down"}}, numbers.paths_down}}),
    };
  }

 private:
  static MetricFamily Gauge(const char* name, const char* help, uint64_t value) {
    ClientMetric metric;
    metric.gauge.value = static_cast<double>(value);
    return {name, help, MetricType::Gauge, {std::move(metric)}};
  }

  using Labels = std::vector<std::pair<const char*, std::string>>;

  static MetricFamily LabelledGauge(const char* name, const char* help,
                                    const std::vector<std::pair<Labels, uint64_t>>& values) {
    MetricFamily family{name, help, MetricType::Gauge, {}};
    for (const auto& [labels, value] : values) {
      ClientMetric metric;
      for (const auto& [label, text] : labels) metric.label.push_back({label, text});
      metric.gauge.value = static_cast<double>(value);
      family.metric.push_back(std::move(metric));
    }
    return family;
  }

  static MetricFamily UnmetConditions(const std::vector<UnmetCondition>& conditions) {
    std::vector<std::pair<Labels, uint64_t>> values;
    for (const UnmetCondition& unmet : conditions) {
      values.push_back({{{"object", unmet.object}, {"condition", unmet.condition}}, unmet.count});
    }
    return LabelledGauge("sma_unmet_conditions", "Devices and volumes with an unmet condition",
                         values);
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

  ~Impl() { ShutDownSockets(port()); }

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
  prometheus::Exposer exposer_;  // destroyed first: its threads use all other members
};

Metrics::Metrics(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Metrics::~Metrics() = default;

absl::StatusOr<std::unique_ptr<Metrics>> Metrics::Listen(const std::string& address,
                                                         Source source) {
  try {
    auto impl = std::make_unique<Impl>(address, std::move(source));
    return std::unique_ptr<Metrics>(new Metrics(std::move(impl)));
  } catch (const std::exception& error) {
    const std::string why = WhyNotBound(address);
    return absl::UnavailableError(
        fmt::format("metrics: cannot listen on {}: {}", address, why.empty() ? error.what() : why));
  }
}

void Metrics::ObserveCall(std::string_view method, absl::StatusCode code,
                          std::chrono::nanoseconds latency) {
  impl_->ObserveCall(method, code, latency);
}

uint16_t Metrics::port() const { return impl_->port(); }

}  // namespace sma::metrics
