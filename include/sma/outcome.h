// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "jsonrpc/error.h"

namespace sma {

/// The outcome of a change on the target or in a VM. If the change is not done, status() says why;
/// the state says what the caller must do next.
///
/// Converts implicitly from absl::Status, the result of a call: OK becomes kDone, an error
/// kNotDone, or kUnknown if the transport does not know whether the target executed the request
/// (jsonrpc::IsFateUnknown). Only this conversion reads that fact; status() of an outcome never
/// carries it. Not thread-safe.
class [[nodiscard]] Outcome {
 public:
  enum class State {
    kDone,
    /// The change was not made, and left nothing behind.
    kNotDone,
    /// Not done because the device is in the record but not on the target: it must be restored
    /// first.
    kDeviceMissing,
    /// Not done because a BdevPlan is not enough: call CryptoEngine::Setup.
    kNeedsSetup,
    /// The change was accepted and completes without further requests from the caller: the user of
    /// the object (the guest of a VM) was asked to release it and has not done so yet.
    kUnderWay,
    /// It is unknown whether the change was made, it may still be made, or it could not be rolled
    /// back.
    kUnknown,
  };

  Outcome() = default;
  Outcome(absl::Status status)  // NOLINT(google-explicit-constructor): as absl::StatusOr
      : state_(StateOf(status)), status_(jsonrpc::WithoutFate(std::move(status))) {}

  /// `reason` must not be OK.
  static Outcome NotDone(absl::Status reason) { return {State::kNotDone, std::move(reason)}; }
  static Outcome DeviceMissing(absl::Status reason) {
    return {State::kDeviceMissing, std::move(reason)};
  }
  static Outcome NeedsSetup(absl::Status reason) { return {State::kNeedsSetup, std::move(reason)}; }
  static Outcome UnderWay(absl::Status reason) { return {State::kUnderWay, std::move(reason)}; }
  static Outcome Unknown(absl::Status reason) { return {State::kUnknown, std::move(reason)}; }
  /// Done, because the object to be removed did not exist: the record differs from the target.
  static Outcome WasGone() {
    Outcome outcome;
    outcome.was_gone_ = true;
    return outcome;
  }

  /// Done, because the object to be created already existed: rolling back the call does not remove
  /// it.
  static Outcome WasThere() {
    Outcome outcome;
    outcome.was_there_ = true;
    return outcome;
  }

  State state() const { return state_; }
  bool ok() const { return state_ == State::kDone; }
  bool is_device_missing() const { return state_ == State::kDeviceMissing; }
  bool needs_setup() const { return state_ == State::kNeedsSetup; }
  bool is_under_way() const { return state_ == State::kUnderWay; }
  bool is_unknown() const { return state_ == State::kUnknown; }
  bool was_gone() const { return was_gone_; }
  bool was_there() const { return was_there_; }
  /// Returns true if there is nothing to roll back or to wait for, because the change was either
  /// made completely or not made at all.
  bool is_settled() const { return !is_under_way() && !is_unknown(); }

  const absl::Status& status() const { return status_; }
  absl::StatusCode code() const { return status_.code(); }
  std::string message() const { return std::string(status_.message()); }

  /// Returns the same reason after a rollback with the outcome `undone`: not done if the rollback
  /// is done, else unknown.
  Outcome AfterUndo(const Outcome& undone) && {
    return undone.ok() ? NotDone(std::move(status_)) : Unknown(std::move(status_));
  }
  /// Returns the same state, with `object` prepended to the reason.
  Outcome WithContext(std::string_view object) const;
  /// Keeps the first outcome that is not done, like absl::Status::Update.
  void Update(Outcome other) {
    if (ok()) *this = std::move(other);
  }
  void IgnoreError() const {}

 private:
  Outcome(State state, absl::Status reason)
      : state_(state), status_(jsonrpc::WithoutFate(std::move(reason))) {}

  static State StateOf(const absl::Status& status) {
    if (status.ok()) return State::kDone;
    return jsonrpc::IsFateUnknown(status) ? State::kUnknown : State::kNotDone;
  }

  State state_ = State::kDone;
  bool was_gone_ = false;
  bool was_there_ = false;
  absl::Status status_;
};

/// Returns `status` with `object` prepended to its message; payloads are kept.
inline absl::Status WithContext(std::string_view object, const absl::Status& status) {
  if (status.ok()) return status;
  absl::Status named(status.code(),
                     std::string(object).append(": ").append(std::string(status.message())));
  status.ForEachPayload([&named](absl::string_view url, const absl::Cord& payload) {
    named.SetPayload(url, payload);
  });
  return named;
}

inline Outcome Outcome::WithContext(std::string_view object) const {
  return {state_, sma::WithContext(object, status_)};
}

/// A value if the outcome is done, else the outcome that says why not.
template <typename T>
class [[nodiscard]] OutcomeOr {
 public:
  // NOLINTBEGIN(google-explicit-constructor): as absl::StatusOr
  OutcomeOr(T value) : value_(std::move(value)) {}
  /// `outcome` must not be done.
  OutcomeOr(Outcome outcome) : outcome_(std::move(outcome)) {}
  OutcomeOr(absl::Status status) : outcome_(std::move(status)) {}
  OutcomeOr(absl::StatusOr<T> value) : outcome_(value.status()) {
    if (value.ok()) value_ = *std::move(value);
  }
  // NOLINTEND(google-explicit-constructor)
  /// `outcome` must be done.
  OutcomeOr(T value, Outcome outcome) : outcome_(std::move(outcome)), value_(std::move(value)) {}

  bool ok() const { return outcome_.ok(); }
  const Outcome& outcome() const { return outcome_; }
  const absl::Status& status() const { return outcome_.status(); }

  /// Requires ok().
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Outcome outcome_;
  std::optional<T> value_;
};

}  // namespace sma
