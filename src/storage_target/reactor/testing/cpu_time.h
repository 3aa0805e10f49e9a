// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <time.h>

#include <cstdint>

namespace sma::storage_target {

/// CPU time of this thread in nanoseconds: other load on the system does not lengthen it.
inline uint64_t ThreadCpuNs() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace sma::storage_target
