// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/periodic_timer.h"

#include <spdlog/spdlog.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace sma::jsonrpc {

PeriodicTimer::PeriodicTimer()
    : fd_(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) {
  if (fd_) return;
  spdlog::critical("JSON-RPC: timerfd_create failed: {}", std::strerror(errno));
  std::abort();
}

void PeriodicTimer::SetPeriod(std::chrono::milliseconds period) {
  itimerspec spec{};
  spec.it_value.tv_sec = spec.it_interval.tv_sec = period.count() / 1000;
  spec.it_value.tv_nsec = spec.it_interval.tv_nsec = period.count() % 1000 * 1'000'000;
  ::timerfd_settime(fd_.get(), 0, &spec, nullptr);
}

void PeriodicTimer::Acknowledge() {
  uint64_t ticks;
  if (::read(fd_.get(), &ticks, sizeof(ticks)) < 0 && errno != EAGAIN) {
    spdlog::error("JSON-RPC: timer failed: {}", std::strerror(errno));
  }
}

}  // namespace sma::jsonrpc
