// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace sma::storage_target::virtio {

/// The guards of one device that a guest uses. A guest may map as many regions as it likes, so a
/// device that has 64 guards gets more only while it has less than a seventh of what is free in the
/// first half of all guards. The other half is kept for devices with fewer. Thread-safe.
class GuardShare {
 public:
  GuardShare() = default;
  GuardShare(const GuardShare&) = delete;
  GuardShare& operator=(const GuardShare&) = delete;

 private:
  friend class BusErrorGuard;
  bool MayTake(size_t all) const;  // `all`: the number of guards
  std::atomic<size_t> used_{0};
};

/// Keeps the program alive when memory shared with another process loses its backing: any process
/// that shares a file can truncate it, and an access beyond its end then raises SIGBUS. The handler
/// replaces the whole mapping with zeroes private to this process and marks its guard as broken.
class BusErrorGuard {
 public:
  static constexpr size_t kMaxGuards = 16384;

  /// Guards `size_bytes` at `address`, which must be the whole of one mapping. Counts in `share`;
  /// if it is null, only kMaxGuards applies. The first guard installs the signal handler. May be
  /// called from any thread.
  BusErrorGuard(void* address, size_t size_bytes, std::shared_ptr<GuardShare> share = nullptr);
  /// Must be destroyed before the memory is unmapped.
  ~BusErrorGuard();
  BusErrorGuard(const BusErrorGuard&) = delete;
  BusErrorGuard& operator=(const BusErrorGuard&) = delete;

  /// Returns false if kMaxGuards guards already exist or the device has its share of them, in which
  /// case the memory must not be accessed.
  bool armed() const { return slot_ < kMaxGuards; }
  /// Returns true once the mapping has been replaced. May be called from any thread.
  bool broken() const;

  /// Returns a number that increases with each mapping that is replaced. A caller needs to check
  /// its guards only if it has changed. May be called from any thread.
  static uint32_t broken_count() { return broken_count_.load(std::memory_order_relaxed); }
  /// Returns the number of slots that the signal handler searches, for tests: up to the last guard.
  static size_t searched_slots();

 private:
  static void OnSignal(int signal, siginfo_t* info, void* context);

  size_t TakeSlot();
  void FreeSlot();

  static inline std::atomic<uint32_t> broken_count_{0};
  std::shared_ptr<GuardShare> share_;
  size_t slot_ = kMaxGuards;
};

}  // namespace sma::storage_target::virtio
