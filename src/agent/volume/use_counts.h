// SPDX-License-Identifier: Apache-2.0

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

/// The volumes that use each connection of the target, by the connection's name. Thread-safe.
class UseCounts {
 public:
  /// The lock of one connection and its users. Only the holder may read or change the users, or
  /// change the connection.
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

  /// Adds a user from the record. Call this before other threads use this object.
  void Add(const std::string& name, const base::Uuid& user);

  /// Locks one connection; waits until `context` ends at the latest. A caller may hold only one
  /// lock.
  absl::StatusOr<Held> Lock(const base::Context& context, const std::string& name);

  /// Returns true if the connection has users, or is locked by a caller that may become one.
  bool IsUsed(const std::string& name) const;

  /// Returns the first used name that begins with `prefix` and for which `matches` returns true.
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
  mutable base::Mutex mutex_;  // guards the map; the lock of a name guards its set
  std::map<std::string, std::set<base::Uuid>, std::less<>> users_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
