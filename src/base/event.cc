// SPDX-License-Identifier: Apache-2.0

#include "base/event.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace sma::base {
namespace {

using std::chrono::steady_clock;

// Waits until the word differs from `value`; may also return spuriously. Returns false if `until`
// has passed.
bool SleepWhile(const std::atomic<uint32_t>& word, uint32_t value, steady_clock::time_point until) {
  timespec time{};
  const timespec* limit = nullptr;
  if (until != steady_clock::time_point::max()) {
    // steady_clock of libstdc++ is CLOCK_MONOTONIC; the kernel refuses negative times.
    auto since_start = std::max(until.time_since_epoch(), steady_clock::duration::zero());
    auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since_start);
    time.tv_sec = static_cast<time_t>(seconds.count());
    time.tv_nsec = static_cast<long>((since_start - seconds) / std::chrono::nanoseconds(1));
    limit = &time;
  }
  // FUTEX_WAIT_BITSET is used because it takes an absolute time.
  long result = ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, value, limit, nullptr,
                          FUTEX_BITSET_MATCH_ANY);
  return result == 0 || errno != ETIMEDOUT;
}

}  // namespace

// Once the bit is set, the waiter may return and destroy the word. FUTEX_WAKE uses only its address
// and does not read it; at worst it wakes an unrelated waiter, which checks its own word and sleeps
// again.
void Event::Raise(uint32_t bit) {
  const std::atomic<uint32_t>* address = &bits_;
  bits_.fetch_or(bit, std::memory_order_release);
  ::syscall(SYS_futex, address, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

void Event::Wait() {
  while (!WaitOnce(steady_clock::time_point::max())) {
  }
}

bool Event::WaitOnce(steady_clock::time_point until) {
  bool in_time = true;
  while (true) {
    uint32_t bits = bits_.load(std::memory_order_acquire);
    if ((bits & kSet) != 0) return true;
    if ((bits & kPoked) != 0) bits_.fetch_and(~kPoked, std::memory_order_relaxed);
    if ((bits & kPoked) != 0 || !in_time) return false;
    in_time = SleepWhile(bits_, bits, until);
  }
}

}  // namespace sma::base
