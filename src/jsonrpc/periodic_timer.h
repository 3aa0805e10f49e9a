// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>

#include "base/unique_fd.h"

namespace sma::jsonrpc {

/// A timerfd that becomes readable each period. Not thread-safe.
class PeriodicTimer {
 public:
  /// The timer is stopped initially. Aborts the program if the kernel provides no descriptor.
  PeriodicTimer();

  /// Returns a descriptor that becomes readable when a period has elapsed since Acknowledge().
  int fd() const { return fd_.get(); }
  /// Starts a new period now; 0 stops the timer.
  void SetPeriod(std::chrono::milliseconds period);
  void Acknowledge();

 private:
  base::UniqueFd fd_;
};

}  // namespace sma::jsonrpc
