#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/lock_table.h"
#include "base/mutex.h"
#include "base/uuid.h"

namespace sma::volume {

/// Which volumes use an object on the target that they share, known by its name. Thread-safe.
class UseCounts {
 public:
  /// The users of one object, while nobody else may look at them or change the object.
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

  /// Before other threads use this: what the record says.
  void Add(const std::string& name, const base::Uuid& user);

  /// Waits as long as `context` allows. A caller holds one name at a time.
  absl::StatusOr<Held> Lock(const base::Context& context, const std::string& name);

  bool IsUsed(const std::string& name) const;

 private:
  base::LockTable locks_;
  mutable base::Mutex mutex_;  // of the map; each set is its lock's holder's
  std::map<std::string, std::set<base::Uuid>> users_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
