#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace sma::volume {

/// What is known to be on the target, by name, for as long as the connection to it lasts.
/// Thread-safe.
template <typename Object>
class KnownObjects {
 public:
  /// To be taken before the target is asked what it has.
  struct Mark {
    uint64_t generation = 0;
    uint64_t changes = 0;
  };
  Mark mark(uint64_t generation) const {
    base::MutexLock lock(mutex_);
    return {generation, changes_};
  }

  /// What the target answered. Where something was changed since `mark` the answer may be old: then
  /// only objects that both have are brought up to date.
  void Replace(const Mark& mark, std::vector<Object> objects) {
    base::MutexLock lock(mutex_);
    if (mark.generation < generation_) return;
    const bool is_old = changes_ != mark.changes && mark.generation == generation_;
    std::map<std::string, Object> by_name;
    for (Object& object : objects) {
      std::string name = object.name;
      if (is_old && !objects_.contains(name)) continue;
      by_name.emplace(std::move(name), std::move(object));
    }
    if (is_old) by_name.merge(objects_);
    generation_ = mark.generation;
    objects_ = std::move(by_name);
  }

  /// `generation`: the connection's before the target was called.
  void Put(uint64_t generation, const std::string& name, Object object) {
    base::MutexLock lock(mutex_);
    ++changes_;
    if (generation < generation_) return;
    if (generation != generation_) objects_.clear();
    generation_ = generation;
    objects_.insert_or_assign(name, std::move(object));
  }

  /// As Put, of what `change` makes of the object, or of an empty one.
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

  /// The name of the first object for which `matches` is true.
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
