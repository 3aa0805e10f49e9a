#pragma once

#include <chrono>
#include <map>
#include <optional>

#include "agent/record/rows.h"
#include "agent/volume/volumes.h"
#include "base/mutex.h"
#include "base/uuid.h"

namespace sma::core {

/// How many paths to the storage nodes of volumes are up, and since when that many, as last seen.
/// Thread-safe.
class PathFacts {
 public:
  struct Fact {
    volume::PathCount paths;
    record::Time since;
  };

  /// Whether that is other than what was known; nullopt: nothing is known of the volume.
  bool Update(const base::Uuid& volume, const std::optional<volume::PathCount>& paths) {
    base::MutexLock lock(mutex_);
    auto found = facts_.find(volume);
    if (!paths) return found != facts_.end() && (facts_.erase(found), true);
    if (found != facts_.end() && found->second.paths == *paths) return false;
    facts_.insert_or_assign(volume,
                            Fact{.paths = *paths, .since = std::chrono::system_clock::now()});
    return true;
  }
  std::optional<Fact> Find(const base::Uuid& volume) const {
    base::MutexLock lock(mutex_);
    auto found = facts_.find(volume);
    return found == facts_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  mutable base::Mutex mutex_;
  std::map<base::Uuid, Fact> facts_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::core
