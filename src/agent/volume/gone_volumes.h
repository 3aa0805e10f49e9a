#pragma once

#include <chrono>
#include <map>

#include "base/context.h"
#include "base/mutex.h"
#include "base/uuid.h"

namespace sma::volume {

/// Since when attached volumes have been missing, as far as this process has seen. Thread-safe.
class GoneVolumes {
 public:
  /// `period` 0: no volume is ever overdue.
  explicit GoneVolumes(std::chrono::nanoseconds period) : period_(period) {}

  /// Keeps whether `volume` is missing now. True when it has been missing at each look for longer
  /// than the period.
  bool Look(const base::Uuid& volume, bool is_missing) {
    base::MutexLock lock(mutex_);
    if (!is_missing) {
      since_.erase(volume);
      return false;
    }
    const auto now = std::chrono::steady_clock::now();
    const auto since = since_.emplace(volume, now).first->second;
    return period_ > std::chrono::nanoseconds(0) && now - since > period_;
  }

  /// The volume is not attached any more.
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
