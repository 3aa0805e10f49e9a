#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/lock_table.h"
#include "base/mutex.h"
#include "base/uuid.h"

namespace sma::volume {

/// Which volumes use a connection of the target, known by its name. Thread-safe.
class UseCounts {
 public:
  /// The users of one connection, while nobody else may look at them or change the connection.
  class Held {
   public:
    Held(UseCounts& counts, base::LockTable::Held lock, std::string name);
    Held(Held&& other) noexcept;
    Held& operator=(Held&&) = delete;
    ~Held();
    std::set<base::Uuid>& users() { return *users_; }

   private:
    UseCounts* counts_;
    base::LockTable::Held lock_;
    std::string name_;
    std::set<base::Uuid>* users_;
  };

  /// Adds what the record says. Call it before other threads use this.
  void Add(const std::string& name, const base::Uuid& user);

  /// Waits as long as `context` allows. A caller holds one name at a time.
  absl::StatusOr<Held> Lock(const base::Context& context, const std::string& name);

  /// Whether the connection has a user, or somebody holds it to become one.
  bool IsUsed(const std::string& name) const;

  /// The first used name that begins with `prefix` and for which `matches` is true.
  template <typename Predicate>
  std::optional<std::string> FindUsed(std::string_view prefix, const Predicate& matches) const {
    base::MutexLock lock(mutex_);
    for (auto entry = users_.lower_bound(prefix); entry != users_.end(); ++entry) {
      if (!entry->first.starts_with(prefix)) break;
      if (matches(entry->first)) return entry->first;
    }
    return std::nullopt;
  }

 private:
  base::LockTable locks_;
  mutable base::Mutex mutex_;  // of the map; each set belongs to the holder of its lock
  std::map<std::string, std::set<base::Uuid>, std::less<>> users_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
