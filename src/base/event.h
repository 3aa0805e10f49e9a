#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace sma::base {

/// Something that happens once: one thread waits for it, any thread sets it. What was written
/// before Set is seen after the wait. The waiter may destroy it as soon as its wait has seen it
/// set. No lock is involved (futex(2)), so that one who is woken never has to wait for the one who
/// woke it, and many who are woken together do not meet.
class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void Set() { Raise(kSet); }

  /// Ends one WaitOnce early, now or the next one, so that the waiter looks at something else. Only
  /// while the waiter is known to keep the event.
  void Poke() { Raise(kPoked); }

  void Wait();

  /// Waits until it is set, `until` (monotonic clock) has passed, or somebody pokes. Whether it is
  /// set.
  [[nodiscard]] bool WaitOnce(std::chrono::steady_clock::time_point until);

 private:
  static constexpr uint32_t kSet = 1;
  static constexpr uint32_t kPoked = 2;

  void Raise(uint32_t bit);

  std::atomic<uint32_t> bits_{0};
};

}  // namespace sma::base
