// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <spdlog/spdlog.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>
#include <utility>

#include "base/log_limit.h"

namespace sma::base {

/// Log lines that peers can cause as often as they like: hosts, VMs, front ends, clients. The lines
/// of each source are limited separately, so that a source neither fills the disk nor hides the
/// lines of others. The memory and the number of lines are bounded for any number of sources,
/// because the sources share kSlots limits, by a hash that differs in each process. Thread-safe.
class PeerLog {
 public:
  static constexpr size_t kSlots = 64;

  /// Each slot may write `burst` lines at once, and `per_second` on average.
  PeerLog(uint32_t burst, uint32_t per_second);

  /// Writes a line as spdlog::log does, unless the limit of `source` is reached. The next line that
  /// is written says how many were suppressed. `source` is a name that the peer cannot change for
  /// each line, for example its address without the port, or the name of the controller that it
  /// uses.
  template <typename... Args>
  void Log(spdlog::level::level_enum level, std::string_view source,
           fmt::format_string<Args...> format, Args&&... args) {
    if (!spdlog::should_log(level)) return;
    const std::optional<uint64_t> left_out = LimitOf(source).Admit();
    if (!left_out) return;
    if (*left_out > 0) spdlog::log(level, "{}: {} lines were suppressed", source, *left_out);
    spdlog::log(level, format, std::forward<Args>(args)...);
  }

  /// Returns the limit of a source.
  LogLimit& LimitOf(std::string_view source);

 private:
  std::deque<LogLimit> slots_;  // its elements cannot be moved
};

/// The limits of all log lines of this process that peers cause.
PeerLog& LogOfPeers();

}  // namespace sma::base
