// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>

#include "storage_target/nvmf/control_plane.h"

namespace sma::storage_target::nvmf {

/// The totals of a subsystem's namespaces, for the SMART log page. A host may read it as often as
/// it likes, and a subsystem may have thousands of namespaces. If calculating the totals takes
/// long, they are kept for a hundred times as long, so that this takes 1% of the control reactor's
/// time, however many hosts there are. Not thread-safe.
class HealthCache {
 public:
  /// Returns the result of `calculate()`, from an earlier call if that is recent enough.
  template <typename Calculate>
  const Health& Get(Calculate calculate) {
    const auto start = std::chrono::steady_clock::now();
    if (start < valid_until_) return health_;
    health_ = calculate();
    const auto end = std::chrono::steady_clock::now();
    valid_until_ = end - start < kCheap ? start : end + (end - start) * kValidity;
    return health_;
  }

 private:
  /// A calculation that takes less than this costs no more than the command.
  static constexpr std::chrono::microseconds kCheap{20};
  static constexpr int kValidity = 100;

  Health health_;
  std::chrono::steady_clock::time_point valid_until_{};
};

}  // namespace sma::storage_target::nvmf
