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

/// The outcome of something that was to be changed on the target or in a virtual machine. Where it
/// is not done, status() says why; the state says what that means for what comes next.
///
/// Converts implicitly from absl::Status, as the result of a call: OK is kDone, an error is
/// kNotDone, and kUnknown where the transport does not know what became of its request
/// (jsonrpc::IsFateUnknown). This is the only place where that fact is read; status() of an outcome
/// never carries it. Not thread-safe.
class [[nodiscard]] Outcome {
 public:
  enum class State {
    kDone,
    /// Nothing of it is left.
    kNotDone,
    /// Nothing of it is left: the device is in the record but not on the target. It has to be
    /// restored first.
    kDeviceMissing,
    /// Nothing of it is left: it takes more than a plan can do. CryptoEngine::Setup can.
    kNeedsSetup,
    /// It was accepted and completes without further requests from the caller: somebody who uses
    /// the object (the guest of a virtual machine) was asked to release it and has not done so yet.
    kUnderWay,
    /// It is not known what was done, or what was done could not be undone, or may still be done.
    kUnknown,
  };

  Outcome() = default;
  Outcome(absl::Status status)  // NOLINT(google-explicit-constructor): as absl::StatusOr
      : state_(StateOf(status)), status_(jsonrpc::WithoutFate(std::move(status))) {}

  /// The reasons are not OK.
  static Outcome NotDone(absl::Status reason) { return {State::kNotDone, std::move(reason)}; }
  static Outcome DeviceMissing(absl::Status reason) {
    return {State::kDeviceMissing, std::move(reason)};
  }
  static Outcome NeedsSetup(absl::Status reason) { return {State::kNeedsSetup, std::move(reason)}; }
  static Outcome UnderWay(absl::Status reason) { return {State::kUnderWay, std::move(reason)}; }
  static Outcome Unknown(absl::Status reason) { return {State::kUnknown, std::move(reason)}; }

  State state() const { return state_; }
  bool ok() const { return state_ == State::kDone; }
  bool is_device_missing() const { return state_ == State::kDeviceMissing; }
  bool needs_setup() const { return state_ == State::kNeedsSetup; }
  bool is_under_way() const { return state_ == State::kUnderWay; }
  bool is_unknown() const { return state_ == State::kUnknown; }
  /// Whether nothing is left to undo or to wait for: done, or not done at all.
  bool is_settled() const { return !is_under_way() && !is_unknown(); }

  const absl::Status& status() const { return status_; }
  absl::StatusCode code() const { return status_.code(); }
  std::string message() const { return std::string(status_.message()); }

  /// The same reason, when undoing has come to `undone`: unknown unless that is done.
  Outcome AfterUndo(const Outcome& undone) && {
    return undone.ok() ? NotDone(std::move(status_)) : Unknown(std::move(status_));
  }
  /// The same state, with `object` in front of the reason's text.
  Outcome WithContext(std::string_view object) const;
  /// Keeps the first outcome that is not done, as absl::Status::Update.
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
  absl::Status status_;
};

/// `status` with `object` in front of its text; its payloads are kept.
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

/// A value where it is done, or the outcome that says why not.
template <typename T>
class [[nodiscard]] OutcomeOr {
 public:
  // NOLINTBEGIN(google-explicit-constructor): as absl::StatusOr
  OutcomeOr(T value) : value_(std::move(value)) {}
  /// `outcome` is not done.
  OutcomeOr(Outcome outcome) : outcome_(std::move(outcome)) {}
  OutcomeOr(absl::Status status) : outcome_(std::move(status)) {}
  OutcomeOr(absl::StatusOr<T> value) : outcome_(value.status()) {
    if (value.ok()) value_ = *std::move(value);
  }
  // NOLINTEND(google-explicit-constructor)

  bool ok() const { return outcome_.ok(); }
  const Outcome& outcome() const { return outcome_; }
  const absl::Status& status() const { return outcome_.status(); }

  /// Only where ok().
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
