// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include "base/context.h"
#include "base/mutex.h"

namespace sma::base {

/// Limits log lines that a peer or a client can cause as often as it likes, so that it cannot fill
/// the disk: use one object, usually static, for each place that writes such a line. Up to `burst`
/// lines are written immediately, and `per_second` on average. Thread-safe.
class LogLimit {
 public:
  LogLimit(uint32_t burst, uint32_t per_second)
      : burst_(burst), per_second_(per_second), lines_(burst) {}

  /// If a line may be written at `now`, returns the number of lines that were suppressed since the
  /// last one. Returns nullopt if this line must be suppressed as well.
  std::optional<uint64_t> Admit(TimePoint now = std::chrono::steady_clock::now());

  /// Writes a line like spdlog::log, unless the limit has been reached. The next line that is
  /// written says how many were suppressed.
  template <typename... Args>
  void Log(spdlog::level::level_enum level, fmt::format_string<Args...> format, Args&&... args) {
    if (!spdlog::should_log(level)) return;
    const std::optional<uint64_t> left_out = Admit();
    if (!left_out) return;
    spdlog::log(level, format, std::forward<Args>(args)...);
    if (*left_out > 0) spdlog::log(level, "{} similar lines were suppressed", *left_out);
  }

 private:
  const double burst_;
  const double per_second_;
  Mutex mutex_;
  double lines_ SMA_GUARDED_BY(mutex_);  // number of lines that may be written now
  TimePoint refilled_ SMA_GUARDED_BY(mutex_){};
  uint64_t left_out_ SMA_GUARDED_BY(mutex_) = 0;
};

}  // namespace sma::base
