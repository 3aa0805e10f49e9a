// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace sma::storage_target::bdev_file {

/// Prevents torn blocks of a file in memory, whose file system allows several threads to read and
/// write the same bytes concurrently. Thread-safe.
class BlockLocks {
 public:
  /// Calls `copy` while no other thread copies a byte of the range. Other threads wait during this
  /// time, so `copy` should take no longer than a memory copy.
  template <typename Copy>
  void With(uint64_t offset_bytes, uint64_t size_bytes, const Copy& copy) {
    const uint64_t runs = MaskOf(offset_bytes, size_bytes);
    // All threads acquire the locks in the same order, which prevents deadlocks.
    ForEach(runs, [](Lock& lock) { lock.Acquire(); });
    copy();
    ForEach(runs, [](Lock& lock) { lock.Release(); });
  }

 private:
  static constexpr uint64_t kRunBytes = 128 * 1024;  // consecutive bytes with the same lock
  static constexpr size_t kLocks = 64;

  // A fair lock (first come, first served): unlike with a std::mutex, a thread that has just
  // released the lock cannot acquire it again before a waiting thread does.
  class Lock {
   public:
    void Acquire() {
      const uint32_t turn = next_.fetch_add(1, std::memory_order_relaxed);
      for (uint32_t now = now_.load(std::memory_order_acquire); now != turn;
           now = now_.load(std::memory_order_acquire)) {
        now_.wait(now, std::memory_order_acquire);
      }
    }
    void Release() {
      now_.fetch_add(1, std::memory_order_release);
      now_.notify_all();
    }

   private:
    std::atomic<uint32_t> next_{0};
    std::atomic<uint32_t> now_{0};  // number of the current ticket
  };

  // Returns a bit mask of the locks that are needed for the range.
  static uint64_t MaskOf(uint64_t offset_bytes, uint64_t size_bytes) {
    const uint64_t first = offset_bytes / kRunBytes;
    const uint64_t last = (offset_bytes + size_bytes - 1) / kRunBytes;
    if (last - first >= kLocks - 1) return ~uint64_t{0};
    uint64_t mask = 0;
    for (uint64_t run = first; run <= last; ++run) mask |= uint64_t{1} << run % kLocks;
    return mask;
  }
  template <typename Visit>
  void ForEach(uint64_t mask, const Visit& visit) {
    for (; mask != 0; mask &= mask - 1) visit(locks_[static_cast<size_t>(std::countr_zero(mask))]);
  }

  std::array<Lock, kLocks> locks_;
};

}  // namespace sma::storage_target::bdev_file
