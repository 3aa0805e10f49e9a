#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/mutex.h"
#include "base/uuid.h"

namespace sma::base {

/// Locks that are known by name, held while calls about what they are named after are going on,
/// remote calls included. Thread-safe. Everyone takes a device's lock before those of volumes, the
/// locks of several volumes in one Acquire, and any other of the same table last and alone.
class LockTable {
 public:
  struct Key {
    std::string name;
    bool shared = false;  // with others that share it

    // NOLINTNEXTLINE(modernize-use-nullptr): of the operator that the compiler makes
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  static Key Device(std::string_view handle, bool shared = false) {
    return {std::string("d ").append(handle), shared};
  }
  static Key Volume(const Uuid& id) { return {"v " + id.ToString(), false}; }

  /// Held locks; given back when destroyed.
  class Held {
   public:
    Held() = default;
    Held(Held&& other) noexcept
        : table_(std::exchange(other.table_, nullptr)), keys_(std::move(other.keys_)) {}
    Held& operator=(Held&& other) noexcept {
      Release();
      table_ = std::exchange(other.table_, nullptr);
      keys_ = std::move(other.keys_);
      return *this;
    }
    ~Held() { Release(); }

   private:
    friend class LockTable;
    void Release();
    LockTable* table_ = nullptr;
    std::vector<Key> keys_;
  };

  /// Takes all of `keys`, in the order of their names, and waits for each as long as `context`
  /// allows.
  absl::StatusOr<Held> Acquire(const Context& context, std::vector<Key> keys);

 private:
  struct Entry {
    int sharers = 0;
    bool exclusive = false;
    int waiting_exclusive = 0;  // newcomers that would share stand back for these
    int users = 0;              // holders and waiters; the entry goes with the last
    CondVar changed;
  };

  absl::Status Take(const Context& context, const Key& key);
  void Give(const Key& key);
  static bool IsFree(const Entry& entry, bool shared) {
    return !entry.exclusive && (shared ? entry.waiting_exclusive == 0 : entry.sharers == 0);
  }

  Mutex mutex_;
  std::map<std::string, Entry, std::less<>> entries_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::base
