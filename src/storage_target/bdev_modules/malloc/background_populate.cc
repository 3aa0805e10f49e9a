// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/malloc/background_populate.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>
#include <system_error>

namespace sma::storage_target::bdev_malloc {
namespace {

constexpr int kMadvPopulateWrite = 23;      // MADV_POPULATE_WRITE, missing in older headers
constexpr size_t kBytesAtOnce = 512 << 10;  // takes a fraction of a millisecond
constexpr size_t kBytesPerMemoryCheck = 64 << 20;
// The thread works for a third of the time at most.
constexpr int kPausesPerPart = 2;

struct Memory {
  uint64_t total_bytes = std::numeric_limits<uint64_t>::max();
  uint64_t available_bytes = std::numeric_limits<uint64_t>::max();
};

Memory MachineMemory() {
  Memory memory;
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  uint64_t kib = 0;
  while (file >> key >> kib) {
    if (key == "MemTotal:") memory.total_bytes = kib * 1024;
    if (key == "MemAvailable:") memory.available_bytes = kib * 1024;
    std::getline(file, unit);
  }
  return memory;
}

// Returns the limits of the process's control group (version 2), found by the first line of
// /proc/self/cgroup ("0::/PATH").
Memory GroupMemory() {
  Memory memory;
  std::string line;
  std::getline(std::ifstream("/proc/self/cgroup"), line);
  if (!line.starts_with("0::")) return memory;
  const std::string folder = "/sys/fs/cgroup" + line.substr(3);
  uint64_t max_bytes = 0;
  uint64_t current_bytes = 0;
  if (!(std::ifstream(folder + "/memory.max") >> max_bytes) ||  // "max": no limit
      !(std::ifstream(folder + "/memory.current") >> current_bytes)) {
    return memory;
  }
  memory.total_bytes = max_bytes;
  memory.available_bytes = max_bytes - std::min(max_bytes, current_bytes);
  return memory;
}

bool LeavesEnough(size_t size_bytes) {
  for (const Memory& memory : {MachineMemory(), GroupMemory()}) {
    if (memory.total_bytes == std::numeric_limits<uint64_t>::max()) continue;
    if (memory.available_bytes < size_bytes + memory.total_bytes / 4) return false;
  }
  return true;
}

}  // namespace

BackgroundPopulate::BackgroundPopulate(std::byte* memory, size_t size_bytes) {
  try {
    thread_ = std::thread([this, memory, size_bytes] { Run(memory, size_bytes); });
  } catch (const std::system_error&) {
    // If the thread cannot be created, pages are allocated when they are accessed.
  }
}

BackgroundPopulate::~BackgroundPopulate() {
  stop_.store(true, std::memory_order_relaxed);
  if (thread_.joinable()) thread_.join();
}

// The thread's priority is not lowered: while it populates a part, it holds a kernel lock for which
// every mmap(2) of the process waits. On a busy host, a thread of low priority would hold this lock
// for seconds.
void BackgroundPopulate::Run(std::byte* memory, size_t size_bytes) const {
  for (size_t at = 0; at < size_bytes && !stop_.load(std::memory_order_relaxed);) {
    const size_t left = size_bytes - at;
    if (at % kBytesPerMemoryCheck == 0 && !LeavesEnough(std::min(left, kBytesPerMemoryCheck))) {
      return;
    }
    const size_t part = std::min(left, kBytesAtOnce);
    const auto begin = std::chrono::steady_clock::now();
    if (::madvise(memory + at, part, kMadvPopulateWrite) != 0) return;
    at += part;
    std::this_thread::sleep_for(kPausesPerPart * (std::chrono::steady_clock::now() - begin));
  }
}

}  // namespace sma::storage_target::bdev_malloc
