// SPDX-License-Identifier: Apache-2.0

#include "agent/service/free_memory.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace sma::service {
namespace {

constexpr int64_t kMinExcessBytes = 32 * 1024 * 1024;

/// Returns the number of bytes that are resident but not allocated: free heap memory, code, stacks.
/// The allocator's own count of free bytes includes bytes already returned to the system.
int64_t ResidentExcess() {
  int64_t total_pages = 0;
  int64_t resident_pages = 0;
  std::ifstream("/proc/self/statm") >> total_pages >> resident_pages;  // proc(5)
  return resident_pages * ::sysconf(_SC_PAGESIZE) - static_cast<int64_t>(::mallinfo2().uordblks);
}

}  // namespace

void FreeMemory::ReturnToSystem() {
  const int64_t excess = ResidentExcess();
  if (excess < excess_after_trim_ + kMinExcessBytes) {
    excess_after_trim_ = std::min(excess_after_trim_, excess);
    return;
  }
  ::malloc_trim(0);
  excess_after_trim_ = ResidentExcess();
}

}  // namespace sma::service
