// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/mutex.h"

namespace sma::storage_target {
class Reactor;
}

namespace sma::storage_target::bdev_malloc {

/// Protects the blocks of a memory disk against torn reads and writes. As long as one reactor does
/// I/O, it is the owner of the disk and accesses it without locks. When a second reactor starts to
/// do I/O, the owner releases the disk on its own thread, between two I/Os; from then on every
/// reactor locks the blocks that it copies. When only one reactor has channels left, it becomes the
/// owner again.
///
/// Thread-safe. Owned by the disk, its channels and the scheduled tasks, through shared_ptr.
class DiskSharing : public std::enable_shared_from_this<DiskSharing> {
 public:
  enum class Access { kOwner, kLocked, kWait };

  /// The interface through which a channel waits for the owner. Used only on the channel's reactor.
  struct Waiter {
    virtual ~Waiter() = default;
    /// Called when the owner has released the disk, on the channel's reactor.
    virtual void OnShared() = 0;
  };

  /// `block_size` is in bytes and not 0.
  explicit DiskSharing(size_t block_size);

  void AddChannel(Reactor& reactor);
  /// Called on the thread of `reactor`, after its last access through the channel.
  void RemoveChannel(Reactor& reactor);

  /// Returns true if `reactor`, in whose thread this is called, is the owner and may access the
  /// memory without a lock until it returns to its loop. Costs one atomic load.
  bool IsOwner(const Reactor& reactor) const {
    return owner_.load(std::memory_order_acquire) == &reactor;
  }

  /// Registers an I/O of `reactor`, which is not the owner. Returns kOwner if the disk had no
  /// owner, kLocked if the disk is shared. Otherwise requests the owner to release the disk and
  /// returns kWait: the I/O must wait for OnShared, which is called once, unless `waiter` has
  /// expired by then.
  Access Request(Reactor& reactor, const std::weak_ptr<Waiter>& waiter);
  /// Like Request, but sends no request to the owner.
  Access TryAccess(Reactor& reactor);

  /// Calls `visit(offset, size)`, both in bytes, for consecutive parts of the `size_bytes` bytes
  /// from `offset_bytes`, each with the lock of that part held. If the range starts and ends at
  /// block boundaries, no part contains only a portion of a block. Stops when `visit` returns
  /// false.
  template <typename Visit>
  void VisitLocked(uint64_t offset_bytes, uint64_t size_bytes, Visit visit) {
    for (const uint64_t end = offset_bytes + size_bytes; offset_bytes < end;) {
      const uint64_t run = offset_bytes / run_bytes_;
      const uint64_t part_end = end < (run + 1) * run_bytes_ ? end : (run + 1) * run_bytes_;
      Lock lock(locks_[run % kLocks].taken);
      if (!visit(offset_bytes, part_end - offset_bytes)) return;
      offset_bytes = part_end;
    }
  }

  /// Calls `act` with all locks held.
  template <typename Act>
  void WithAllLocked(Act act) {
    for (Spin& spin : locks_) Acquire(spin.taken);
    act();
    for (Spin& spin : locks_) spin.taken.store(false, std::memory_order_release);
  }

  /// Returns the number of bytes after which the sequence of locks repeats, a multiple of the block
  /// size.
  uint64_t cycle_bytes() const { return run_bytes_ * kLocks; }

 private:
  static constexpr size_t kLocks = 64;
  static constexpr size_t kCacheLineBytes = 64;

  struct alignas(kCacheLineBytes) Spin {
    std::atomic<bool> taken{false};
  };
  class Lock {
   public:
    explicit Lock(std::atomic<bool>& taken) : taken_(taken) { Acquire(taken); }
    ~Lock() { taken_.store(false, std::memory_order_release); }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

   private:
    std::atomic<bool>& taken_;
  };

  static void Acquire(std::atomic<bool>& taken) {
    if (taken.exchange(true, std::memory_order_acquire)) AcquireContended(taken);
  }
  static void AcquireContended(std::atomic<bool>& taken);

  Access TryAccessLocked(Reactor& reactor) SMA_REQUIRES(mutex_);
  void Share(Reactor& owner);
  void ShareLocked() SMA_REQUIRES(mutex_);

  // The reactor that owns the disk; nullptr if no reactor has done I/O; `this` if the disk is
  // shared. If the value is a reactor, it is changed only on the thread of that reactor.
  std::atomic<const void*> owner_{nullptr};
  const uint64_t run_bytes_;  // consecutive bytes with the same lock
  std::array<Spin, kLocks> locks_;

  base::Mutex mutex_;
  std::map<Reactor*, size_t> channels_ SMA_GUARDED_BY(mutex_);
  struct Waiting {
    Reactor* reactor;
    std::weak_ptr<Waiter> waiter;
  };
  std::vector<Waiting> waiting_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::storage_target::bdev_malloc
