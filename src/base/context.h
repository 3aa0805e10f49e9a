// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"

namespace sma::base {

using TimePoint = std::chrono::steady_clock::time_point;

/// Limits how long an operation may run: a deadline on the monotonic clock, and a way to cancel it.
/// A context is a handle: copies share the same state. Thread-safe.
class Context {
 public:
  /// Returns a context without a deadline; only Cancel() ends it.
  static Context Background();
  static Context WithDeadline(TimePoint deadline);
  static Context WithTimeout(std::chrono::nanoseconds timeout);

  /// Returns a context that ends with this one, or at `deadline` if that is earlier.
  Context Child(TimePoint deadline) const;

  /// Returns the deadline, or TimePoint::max() if there is none.
  TimePoint deadline() const;

  /// Returns OK while the operation may run, and CANCELLED or DEADLINE_EXCEEDED afterwards.
  absl::Status status() const;
  bool done() const { return !status().ok(); }

  /// Records that a wait was ended early because of the deadline, so that time remains to send an
  /// answer. This also applies to the contexts from which this one has inherited its deadline.
  void NoteCutShort() const;
  /// Returns true if NoteCutShort was called or the deadline has passed, so that an operation that
  /// failed might have succeeded with more time.
  bool IsCutShort() const;

  /// Cancels the operation. Runs the callbacks on the calling thread before it returns. Idempotent.
  void Cancel() const;

  /// Runs `callback` once when Cancel() is called, or immediately if it has already been called;
  /// the passing of the deadline does not run it. Returns an id for RemoveCallback(). After
  /// RemoveCallback() has returned, the callback is not running and will never run.
  uint64_t AddCallback(std::function<void()> callback) const;
  void RemoveCallback(uint64_t id) const;

  /// Waits until `when`, or until the context ends if that is earlier. Returns the context's
  /// status.
  absl::Status SleepUntil(TimePoint when) const;

 private:
  struct State;
  explicit Context(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace sma::base
