// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <map>
#include <optional>

#include "agent/record/rows.h"
#include "agent/volume/volumes.h"
#include "base/mutex.h"
#include "base/uuid.h"

namespace sma::core {

/// The last known number of paths to the storage nodes of volumes, how many of them are up, and
/// since when. Thread-safe.
class PathFacts {
 public:
  struct Fact {
    volume::PathCount paths;
    record::Time since;  // of this number of paths
    record::Time
        reachable_since{};  // since when any path, or no path, has been up; the epoch: always

    bool is_down() const { return paths.up == 0; }
  };

  /// Stores the paths of a volume, or nullopt if they are unknown. Unknown paths do not end the
  /// outage of a volume that had no path. Returns true if this changed the stored facts.
  bool Update(const base::Uuid& volume, const std::optional<volume::PathCount>& paths) {
    base::MutexLock lock(mutex_);
    auto found = facts_.find(volume);
    const bool is_known = found != facts_.end();
    if (!paths) return is_known && !found->second.is_down() && (facts_.erase(found), true);
    if (is_known && found->second.paths == *paths) return false;
    Fact fact{.paths = *paths, .since = std::chrono::system_clock::now()};
    if (is_known && found->second.is_down() == fact.is_down()) {
      fact.reachable_since = found->second.reachable_since;
    } else if (is_known || fact.is_down()) {
      fact.reachable_since = fact.since;
    }
    facts_.insert_or_assign(volume, fact);
    return true;
  }
  /// Removes the facts about a volume that is detached, or that no longer exists on its node.
  /// Returns true if there were any.
  bool Forget(const base::Uuid& volume) {
    base::MutexLock lock(mutex_);
    return facts_.erase(volume) > 0;
  }
  std::optional<Fact> Find(const base::Uuid& volume) const {
    base::MutexLock lock(mutex_);
    auto found = facts_.find(volume);
    return found == facts_.end() ? std::nullopt : std::optional(found->second);
  }
  std::map<base::Uuid, Fact> All() const {
    base::MutexLock lock(mutex_);
    return facts_;
  }

 private:
  mutable base::Mutex mutex_;
  std::map<base::Uuid, Fact> facts_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::core
