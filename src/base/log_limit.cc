// SPDX-License-Identifier: Apache-2.0

#include "base/log_limit.h"

#include <algorithm>

namespace sma::base {

std::optional<uint64_t> LogLimit::Admit(TimePoint now) {
  MutexLock lock(mutex_);
  if (now > refilled_) {
    const std::chrono::duration<double> elapsed = now - refilled_;
    lines_ = std::min(burst_, lines_ + elapsed.count() * per_second_);
    refilled_ = now;
  }
  if (lines_ < 1) {
    ++left_out_;
    return std::nullopt;
  }
  lines_ -= 1;
  return std::exchange(left_out_, 0);
}

}  // namespace sma::base
