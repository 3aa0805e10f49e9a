// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace sma::volume {

/// A cache of objects on the target, by name, valid for one connection (generation) to the target.
/// Thread-safe.
template <typename Object>
class KnownObjects {
 public:
  /// The state of the cache before a query; to be taken before the query is sent.
  struct Snapshot {
    uint64_t generation = 0;
    uint64_t changes = 0;
  };
  Snapshot snapshot(uint64_t generation) const {
    base::MutexLock lock(mutex_);
    return {generation, changes_};
  }

  /// Replaces the contents with the answer of a query that began at `snapshot`. If the cache was
  /// changed since then, the answer may be outdated: objects that are in both are updated, and all
  /// others remain as they are in the cache.
  void Replace(const Snapshot& snapshot, std::vector<Object> objects) {
    base::MutexLock lock(mutex_);
    if (snapshot.generation < generation_) return;
    const bool is_old = changes_ != snapshot.changes && snapshot.generation == generation_;
    std::map<std::string, Object> by_name;
    for (Object& object : objects) {
      std::string name = object.name;
      if (is_old && !objects_.contains(name)) continue;
      by_name.emplace(std::move(name), std::move(object));
    }
    if (is_old) by_name.merge(objects_);
    generation_ = snapshot.generation;
    objects_ = std::move(by_name);
  }

  /// Adds or replaces an object. `generation` is that of the connection before the target was
  /// called.
  void Put(uint64_t generation, const std::string& name, Object object) {
    base::MutexLock lock(mutex_);
    ++changes_;
    if (generation < generation_) return;
    if (generation != generation_) objects_.clear();
    generation_ = generation;
    objects_.insert_or_assign(name, std::move(object));
  }

  /// Like Put, but calls `change` to modify the object in place; a new object is
  /// default-constructed first.
  template <typename Change>
  void Update(uint64_t generation, const std::string& name, const Change& change) {
    base::MutexLock lock(mutex_);
    ++changes_;
    if (generation < generation_) return;
    if (generation != generation_) objects_.clear();
    generation_ = generation;
    change(objects_[name]);
  }

  void Remove(const std::string& name) {
    base::MutexLock lock(mutex_);
    ++changes_;
    objects_.erase(name);
  }

  std::optional<Object> Find(uint64_t generation, const std::string& name) const {
    base::MutexLock lock(mutex_);
    auto found = objects_.find(name);
    if (generation != generation_ || found == objects_.end()) return std::nullopt;
    return found->second;
  }

  /// Returns the name of the first object for which `matches` returns true.
  template <typename Predicate>
  std::optional<std::string> FindIf(uint64_t generation, const Predicate& matches) const {
    base::MutexLock lock(mutex_);
    if (generation != generation_) return std::nullopt;
    for (const auto& [name, object] : objects_) {
      if (matches(object)) return name;
    }
    return std::nullopt;
  }

  template <typename Visitor>
  void ForEach(uint64_t generation, const Visitor& visit) const {
    base::MutexLock lock(mutex_);
    if (generation != generation_) return;
    for (const auto& [name, object] : objects_) visit(object);
  }

 private:
  mutable base::Mutex mutex_;
  uint64_t generation_ SMA_GUARDED_BY(mutex_) = 0;
  uint64_t changes_ SMA_GUARDED_BY(mutex_) = 0;
  std::map<std::string, Object> objects_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
