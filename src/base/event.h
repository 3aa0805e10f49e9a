// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace sma::base {

/// A one-time event: one thread waits for it, any thread sets it. Writes made before Set are
/// visible after the wait. The waiter may destroy the event as soon as a wait has reported that it
/// is set. Uses futex(2) and no lock, so a woken thread never waits for the thread that woke it,
/// and threads that are woken together do not contend.
class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void Set() { Raise(kSet); }

  /// Makes the current or the next WaitOnce return early, so that the waiter can check something
  /// else. The caller must know that the waiter has not destroyed the event.
  void Poke() { Raise(kPoked); }

  void Wait();

  /// Waits until the event is set, `until` (monotonic clock) has passed, or Poke() is called.
  /// Returns true if it is set.
  [[nodiscard]] bool WaitOnce(std::chrono::steady_clock::time_point until);

 private:
  static constexpr uint32_t kSet = 1;
  static constexpr uint32_t kPoked = 2;

  void Raise(uint32_t bit);

  std::atomic<uint32_t> bits_{0};
};

}  // namespace sma::base
