// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "base/mutex.h"

namespace sma::nvmf_common {

/// The names of the target's subsystems at the last listing, which show for which names a device
/// can be created without a query. Thread-safe.
class KnownSubsystems {
 public:
  /// `generation` is that of the connection on which the listing was made.
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

  /// Returns true if the listing was made on connection `generation`.
  bool IsOf(uint64_t generation) const {
    base::MutexLock lock(mutex_);
    return generation_ == generation;
  }

  /// Returns true if the listing was made on connection `generation` and has no subsystem with this
  /// name.
  bool IsAbsent(uint64_t generation, std::string_view nqn) const {
    base::MutexLock lock(mutex_);
    return generation_ == generation && !nqns_.contains(nqn);
  }

 private:
  mutable base::Mutex mutex_;
  uint64_t generation_ SMA_GUARDED_BY(mutex_) = 0;  // 0: no listing yet
  std::set<std::string, std::less<>> nqns_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::nvmf_common
