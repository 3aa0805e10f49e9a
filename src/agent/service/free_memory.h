// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

namespace sma::service {

/// Returns the allocator's free memory to the system, such as after a burst of streams or
/// connections. Not thread-safe.
class FreeMemory {
 public:
  /// Trims the heap (malloc_trim(3)) if the resident but unallocated memory has grown by 32 MiB
  /// since the last trim. Cheap otherwise; call it every few seconds.
  void ReturnToSystem();

 private:
  int64_t excess_after_trim_ = 0;  // bytes
};

}  // namespace sma::service
