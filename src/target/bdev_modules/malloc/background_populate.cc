#include "target/bdev_modules/malloc/background_populate.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <string>
#include <system_error>

namespace sma::target::bdev_modules {
namespace {

constexpr int kMadvPopulateWrite = 23;    // MADV_POPULATE_WRITE, which older headers lack
constexpr size_t kBytesAtOnce = 4 << 20;  // a millisecond or two
constexpr size_t kBytesPerMemoryCheck = 64 << 20;
constexpr int kLowestPriority = 19;

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

// Of control group version 2, by the first line of /proc/self/cgroup ("0::/PATH").
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
    // No more threads: the pages come as they are accessed.
  }
}

BackgroundPopulate::~BackgroundPopulate() {
  stop_.store(true, std::memory_order_relaxed);
  if (thread_.joinable()) thread_.join();
}

void BackgroundPopulate::Run(std::byte* memory, size_t size_bytes) const {
  const auto tid = static_cast<id_t>(::syscall(SYS_gettid));
  ::setpriority(PRIO_PROCESS, tid, kLowestPriority);
  for (size_t at = 0; at < size_bytes && !stop_.load(std::memory_order_relaxed);) {
    const size_t left = size_bytes - at;
    if (at % kBytesPerMemoryCheck == 0 && !LeavesEnough(std::min(left, kBytesPerMemoryCheck))) {
      return;
    }
    const size_t part = std::min(left, kBytesAtOnce);
    if (::madvise(memory + at, part, kMadvPopulateWrite) != 0) return;
    at += part;
  }
}

}  // namespace sma::target::bdev_modules
