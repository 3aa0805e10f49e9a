#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "base/mutex.h"

namespace sma::nvmf_common {

/// Which subsystems the target had when it was last asked. Tells for which names the target need
/// not be asked again before a device is made. Thread-safe.
class KnownSubsystems {
 public:
  /// `generation`: of the connection that the list came by.
  void Replace(uint64_t generation, std::set<std::string, std::less<>> nqns) {
    base::MutexLock lock(mutex_);
    generation_ = generation;
    nqns_ = std::move(nqns);
  }
  void Add(std::string_view nqn) {
    base::MutexLock lock(mutex_);
    nqns_.emplace(nqn);
  }
  void Remove(const std::string& nqn) {
    base::MutexLock lock(mutex_);
    nqns_.erase(nqn);
  }

  /// False when the target may have a subsystem of this name, as far as connection `generation`
  /// knows.
  bool IsAbsent(uint64_t generation, std::string_view nqn) const {
    base::MutexLock lock(mutex_);
    return generation_ == generation && !nqns_.contains(nqn);
  }

 private:
  mutable base::Mutex mutex_;
  uint64_t generation_ SMA_GUARDED_BY(mutex_) = 0;  // 0: never asked
  std::set<std::string, std::less<>> nqns_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::nvmf_common
