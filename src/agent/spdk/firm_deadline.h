// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <utility>

namespace sma::spdk {

/// While an object of this class exists, CallToEnd in the same thread does not wait beyond the
/// deadline of its context. For callers that must go on at their deadline and handle an unknown
/// outcome. Objects may be nested.
class FirmDeadline {
 public:
  FirmDeadline() : was_set_(std::exchange(is_set_, true)) {}
  ~FirmDeadline() { is_set_ = was_set_; }
  FirmDeadline(const FirmDeadline&) = delete;
  FirmDeadline& operator=(const FirmDeadline&) = delete;

  static bool IsSet() { return is_set_; }

 private:
  static thread_local bool is_set_;
  const bool was_set_;
};

}  // namespace sma::spdk
