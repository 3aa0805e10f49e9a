// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cassert>
#include <optional>
#include <utility>

namespace sma::base {

/// A value, or the positive errno value (for example EEXIST) that says why there is none. Used
/// where SPDK's JSON-RPC returns a negative errno as error code.
template <typename T>
class [[nodiscard]] ErrnoOr {
 public:
  ErrnoOr(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  static ErrnoOr Error(int error) {
    assert(error > 0);
    ErrnoOr result;
    result.error_ = error;
    return result;
  }

  bool ok() const { return value_.has_value(); }
  /// Returns 0 if ok(), otherwise a positive errno value.
  int error() const { return error_; }

  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  ErrnoOr() = default;
  std::optional<T> value_;
  int error_ = 0;
};

}  // namespace sma::base
