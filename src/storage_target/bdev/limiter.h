// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "storage_target/bdev/io.h"

namespace sma::storage_target::bdev {

/// Limits per second; 0 for none. They apply to reads, writes and compares, according to their
/// number of blocks.
struct Limits {
  uint64_t rw_ios_per_sec = 0;
  uint64_t rw_bytes_per_sec = 0;
  uint64_t r_bytes_per_sec = 0;
  uint64_t w_bytes_per_sec = 0;

  bool any() const {
    return (rw_ios_per_sec | rw_bytes_per_sec | r_bytes_per_sec | w_bytes_per_sec) != 0;
  }
  friend bool operator==(const Limits&, const Limits&) = default;
};

/// Schedules the I/Os of all reactors in FIFO order so that the limits are met. Each limit is a
/// virtual clock that every I/O advances by its cost; an I/O is due when all clocks that apply to
/// it have reached its start time. A clock that is behind (no demand, or a late timer) catches up
/// by at most kMaxCreditNs, so a limit is exceeded by at most that much work. Thread-safe and
/// lock-free.
class Limiter {
 public:
  static constexpr uint64_t kMaxCreditNs = 50'000'000;

  /// Changes the limits. What was reserved under a limit counts for the one that replaces it, so a
  /// change gives no new credit; only a limit that is removed is forgotten. The I/Os that still
  /// wait must be cancelled and reserved again, because their start times have changed.
  void Set(const Limits& limits, uint64_t now_ns);

  /// Returns the time at which `io` may start; `now_ns` or earlier means immediately. Call once for
  /// each I/O.
  uint64_t Reserve(Io& io, uint32_t block_size, uint64_t now_ns);
  /// Cancels the reservation of `io` before it starts, so that later I/O does not wait for it.
  void Cancel(const Io& io, uint32_t block_size);

 private:
  struct Clock {
    std::atomic<uint64_t> per_sec{0};
    std::atomic<uint64_t> next_ns{0};

    void Set(uint64_t new_per_sec, uint64_t now_ns);
    uint64_t Advance(uint64_t amount, uint64_t now_ns);
    void TurnBack(uint64_t amount);
  };
  enum Index : size_t { kRwIos, kRwBytes, kReadBytes, kWriteBytes, kCount };
  uint64_t Advance(Index index, uint64_t amount, uint64_t now_ns, Io& io);
  void TurnBack(Index index, uint64_t amount, const Io& io);

  std::array<Clock, kCount> clocks_;
};

}  // namespace sma::storage_target::bdev
