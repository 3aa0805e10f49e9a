#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/mutex.h"

namespace sma::target {
class Reactor;
}

namespace sma::target::bdev_modules {

/// Keeps the blocks of a memory disk whole. As long as one reactor does I/O, it is the owner of the
/// disk and accesses it without locks. When a second reactor starts to do I/O, the owner gives the
/// ownership up in its own thread, between two I/Os; from then on every reactor locks the blocks
/// that it copies. When only one reactor has channels left, it becomes the owner again.
///
/// Thread-safe. Owned by the disk, its channels and the tasks under way, through shared_ptr.
class DiskSharing : public std::enable_shared_from_this<DiskSharing> {
 public:
  enum class Access { kOwner, kLocked, kWait };

  /// The part of a channel that waits for the owner. Used in the channel's reactor only.
  struct Waiter {
    virtual ~Waiter() = default;
    /// The owner has given the disk up. Runs in the channel's reactor.
    virtual void OnShared() = 0;
  };

  /// `block_size` in bytes; not 0.
  explicit DiskSharing(size_t block_size);

  void AddChannel(Reactor& reactor);
  /// In the thread of `reactor`, after its last access through the channel.
  void RemoveChannel(Reactor& reactor);

  /// Returns whether `reactor`, whose thread this is, is the owner: then it may access the memory
  /// without a lock until it returns to its loop. One load.
  bool IsOwner(const Reactor& reactor) const {
    return owner_.load(std::memory_order_acquire) == &reactor;
  }

  /// Registers an I/O of `reactor`, which is not the owner. Returns kOwner if nobody was, kLocked
  /// if the disk is shared. Otherwise asks the owner to give it up and returns kWait: the I/O has
  /// to wait for OnShared, which is called once, unless `waiter` has expired by then.
  Access Request(Reactor& reactor, const std::weak_ptr<Waiter>& waiter);
  /// As Request, but asks nobody.
  Access TryAccess(Reactor& reactor);

  /// Calls `visit(offset, size)`, both in bytes, for parts of `size_bytes` bytes of the disk from
  /// `offset_bytes`, in ascending order, each while it holds the lock of the part. No block is in
  /// two parts if the range begins and ends between blocks. `visit` stops early by false.
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

  /// Calls `act` while it holds all locks.
  template <typename Act>
  void WithAllLocked(Act act) {
    for (Spin& spin : locks_) Acquire(spin.taken);
    act();
    for (Spin& spin : locks_) spin.taken.store(false, std::memory_order_release);
  }

  /// Bytes that all locks together cover once, a multiple of the block size.
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

  // The reactor that owns the disk; nullptr: nobody has done I/O; `this`: it is shared. Changes
  // from a reactor only in that reactor's thread.
  std::atomic<const void*> owner_{nullptr};
  const uint64_t run_bytes_;  // neighbouring blocks with the same lock
  std::array<Spin, kLocks> locks_;

  base::Mutex mutex_;
  std::map<Reactor*, size_t> channels_ SMA_GUARDED_BY(mutex_);
  struct Waiting {
    Reactor* reactor;
    std::weak_ptr<Waiter> waiter;
  };
  std::vector<Waiting> waiting_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::target::bdev_modules
