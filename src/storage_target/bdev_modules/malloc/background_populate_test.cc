// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/malloc/background_populate.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

namespace sma::storage_target::bdev_malloc {
namespace {

constexpr size_t kSize = 64 << 20;

std::byte* Map(size_t size) {
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

/// Threads that keep all CPUs busy.
class BusyThreads {
 public:
  BusyThreads() {
    const unsigned count = 3 * std::max(std::thread::hardware_concurrency(), 1u);
    for (unsigned i = 0; i < count; ++i) {
      threads_.emplace_back([this] {
        while (!stop_.load(std::memory_order_relaxed)) {
        }
      });
    }
  }
  ~BusyThreads() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

// A reactor maps memory for each connection, which waits while another thread populates pages.
TEST(BackgroundPopulateTest, MappingMemoryDoesNotWaitForItOnABusyMachine) {
  std::vector<std::byte*> disks;
  for (int i = 0; i < 4; ++i) disks.push_back(Map(kSize));
  const BusyThreads busy;
  std::vector<std::unique_ptr<BackgroundPopulate>> populating;
  for (std::byte* disk : disks) {
    ASSERT_NE(disk, nullptr);
    populating.push_back(std::make_unique<BackgroundPopulate>(disk, kSize));
  }
  constexpr int kMappings = 20;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kMappings; ++i) ::munmap(Map(4096), 4096);
  populating.clear();  // waits for the parts in progress
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
  for (std::byte* disk : disks) ::munmap(disk, kSize);
}

}  // namespace
}  // namespace sma::storage_target::bdev_malloc
