#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "target/bdev/io.h"

namespace sma::target::bdev {

/// What a bdev may do in a second; 0: no limit. Reads, compares and writes count, by their blocks.
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

/// Says when an I/O may go so that the limits hold, first come first served over all reactors: each
/// limit is a virtual clock that every I/O moves on by the time it stands for, and an I/O is due
/// when all clocks that it moves have come to its turn. A clock that has fallen behind (nobody
/// wanted to go, or a timer was late) catches up by kMaxCreditNs at most, so a limit is exceeded by
/// that much work at most. Thread-safe, without locks.
class Limiter {
 public:
  static constexpr uint64_t kMaxCreditNs = 50'000'000;

  /// What was reserved and is not due at `now_ns` no longer counts, and has to be reserved anew. A
  /// limit that was set before gives no new credit.
  void Set(const Limits& limits, uint64_t now_ns);

  /// When `io` may go (`now_ns` or earlier: at once); to be called once for each.
  uint64_t Reserve(const Io& io, uint32_t block_size, uint64_t now_ns);
  /// Returns what Reserve took for `io`, which was aborted before its turn: what comes later does
  /// not wait for it.
  void Cancel(const Io& io, uint32_t block_size);

 private:
  struct Clock {
    std::atomic<uint64_t> per_sec{0};
    std::atomic<uint64_t> next_ns{0};

    uint64_t Advance(uint64_t amount, uint64_t now_ns);
    void TurnBack(uint64_t amount);
  };
  enum Index : size_t { kRwIos, kRwBytes, kReadBytes, kWriteBytes, kCount };
  std::array<Clock, kCount> clocks_;
};

}  // namespace sma::target::bdev
