// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <map>

#include "base/context.h"
#include "base/mutex.h"
#include "base/uuid.h"

namespace sma::volume {

/// Keeps track of how long attached volumes have been missing. The data is not persistent.
/// Thread-safe.
class GoneVolumes {
 public:
  /// A volume that has been missing for `period` is overdue; with 0, no volume ever is.
  explicit GoneVolumes(std::chrono::nanoseconds period) : period_(period) {}

  /// Notes whether `volume` is missing now. Returns true if it is overdue: it was missing in every
  /// call for longer than the period.
  bool Update(const base::Uuid& volume, bool is_missing) {
    base::MutexLock lock(mutex_);
    if (!is_missing) {
      since_.erase(volume);
      return false;
    }
    const auto now = std::chrono::steady_clock::now();
    const auto since = since_.emplace(volume, now).first->second;
    return period_ > std::chrono::nanoseconds(0) && now - since > period_;
  }

  /// To be called when the volume was detached.
  void Forget(const base::Uuid& volume) {
    base::MutexLock lock(mutex_);
    since_.erase(volume);
  }

 private:
  const std::chrono::nanoseconds period_;
  base::Mutex mutex_;
  std::map<base::Uuid, base::TimePoint> since_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
