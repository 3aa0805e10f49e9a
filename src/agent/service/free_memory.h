#pragma once

#include <cstdint>

namespace sma::service {

/// Returns memory to the system that the allocator has free, such as after a storm of streams or
/// connections. Not thread-safe.
class FreeMemory {
 public:
  /// Trims the heap (malloc_trim(3)) if 32 MiB more than after the last time are resident without
  /// being allocated. Cheap if not; to be called every few seconds.
  void ReturnToSystem();

 private:
  int64_t excess_after_trim_ = 0;  // bytes
};

}  // namespace sma::service
