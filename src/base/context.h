#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"

namespace sma::base {

using TimePoint = std::chrono::steady_clock::time_point;

/// How long a piece of work may go on: a deadline on the monotonic clock and a way to cancel it. A
/// handle: copies share the same state. All members are thread-safe.
class Context {
 public:
  /// Without deadline; ends only by Cancel().
  static Context Background();
  static Context WithDeadline(TimePoint deadline);
  static Context WithTimeout(std::chrono::nanoseconds timeout);

  /// A context that ends when this one does, or at `deadline` if that is sooner.
  Context Child(TimePoint deadline) const;

  /// TimePoint::max() when there is none.
  TimePoint deadline() const;

  /// OK while work may go on; CANCELLED or DEADLINE_EXCEEDED after.
  absl::Status status() const;
  bool done() const { return !status().ok(); }

  /// Ends the work; its callbacks run in this thread before it returns. Again: nothing.
  void Cancel() const;

  /// Runs `callback` once when Cancel() is called (at once if it was), never for a passed deadline.
  /// Returns an id for RemoveCallback, which after its return guarantees that the callback is not
  /// running and will not.
  uint64_t AddCallback(std::function<void()> callback) const;
  void RemoveCallback(uint64_t id) const;

  /// Waits until `when`, or until the context ends if that is sooner; the context's status then.
  absl::Status SleepUntil(TimePoint when) const;

 private:
  struct State;
  explicit Context(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace sma::base
