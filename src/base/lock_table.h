// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
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

/// A set of named locks. A lock is held during operations, including remote calls, on the object
/// with that name. Thread-safe. To avoid deadlocks, acquire a device's lock before the locks of
/// volumes, acquire the locks of several volumes with a single Acquire, and acquire any other lock
/// of the same table last and separately.
class LockTable {
 public:
  struct Key {
    std::string name;
    bool shared = false;  // shared with other holders in shared mode

    // NOLINTNEXTLINE(modernize-use-nullptr): of the operator that the compiler makes
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  static Key Device(std::string_view handle, bool shared = false) {
    return {std::string("d ").append(handle), shared};
  }
  static Key Volume(const Uuid& id) { return {"v " + id.ToString(), false}; }

  /// Held locks; released by the destructor.
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

  /// Acquires all of `keys`, in the order of their names. Waits until `context` ends at the latest,
  /// and then returns its status. A waiter for an exclusive lock holds back new sharers, but only
  /// for the first kPriorityTime of the first kPriorityPeriod that it waits, twice that of the
  /// second, and so on: behind a holder that is slow, sharers proceed for some seconds.
  absl::StatusOr<Held> Acquire(const Context& context, std::vector<Key> keys);

  static constexpr std::chrono::milliseconds kPriorityTime{200};
  static constexpr std::chrono::milliseconds kPriorityPeriod{1000};

 private:
  struct Entry {
    int sharers = 0;
    bool exclusive = false;
    int waiting_exclusive = 0;
    TimePoint waiting_since{};  // when the first of these began to wait
    int users = 0;              // holders and waiters; the entry is erased with the last one
    CondVar changed;
  };

  absl::Status Take(const Context& context, const Key& key);
  void Give(const Key& key);
  /// Returns when new sharers need no longer wait behind waiters for an exclusive lock.
  static TimePoint PriorityEnd(const Entry& entry, TimePoint now);

  Mutex mutex_;
  std::map<std::string, Entry, std::less<>> entries_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::base
