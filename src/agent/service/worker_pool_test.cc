// SPDX-License-Identifier: Apache-2.0

#include "agent/service/worker_pool.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace sma::service {
namespace {

using std::chrono::milliseconds;

WorkerPool::Options Small(uint32_t max_threads) {
  WorkerPool::Options options;
  options.max_threads = max_threads;
  options.idle_time = milliseconds(20);
  return options;
}

TEST(WorkerPool, GrowsUpToMaxThreads) {
  WorkerPool pool(Small(8));
  EXPECT_EQ(pool.thread_count(), 0u);
  std::latch all_run(8), go(1);
  std::atomic<int> later{0};
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(pool.Submit([&] {
      all_run.count_down();
      go.wait();
    }));
  }
  all_run.wait();  // returns only if all eight run at the same time
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(pool.Submit([&] { ++later; }));
  EXPECT_EQ(pool.thread_count(), 8u);
  EXPECT_EQ(later, 0);
  go.count_down();
  while (later < 20) std::this_thread::yield();
}

// Work that waits for one peer may use only some of the threads.
TEST(WorkerPool, Defect49_WorkOfOneLaneLeavesThreadsToOthers) {
  WorkerPool::Options options = Small(8);
  options.max_of_lane = 2;
  options.max_of_kind = 4;
  WorkerPool pool(options);
  std::latch go(1);
  std::atomic<int> of_bad = 0;
  std::atomic<int> of_others = 0;
  for (int i = 0; i < 20; ++i) {
    for (const char* bad : {"a", "b", "c"}) {
      ASSERT_TRUE(pool.Submit(
          [&] {
            go.wait();
            ++of_bad;
          },
          {bad}));
    }
  }
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(pool.Submit([&] { ++of_others; }));
  while (of_others < 20) std::this_thread::yield();
  EXPECT_EQ(of_bad, 0);
  EXPECT_LE(pool.thread_count(), 8u);
  go.count_down();
  while (of_bad < 60) std::this_thread::yield();
}

// Several blocked lanes, each with more work than its share, leave threads to the next lanes.
TEST(WorkerPool, Defect49_ManyBlockedLanesLeaveThreadsToTheNextLanes) {
  WorkerPool::Options options = Small(128);
  WorkerPool pool(options);
  std::latch go(1);
  std::atomic<int> of_bad = 0;
  std::atomic<int> of_others = 0;
  constexpr int kLanes = 20, kEach = 40;
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < kEach; ++i) {
      auto block = [&] {
        go.wait();
        ++of_bad;
      };
      ASSERT_TRUE(pool.Submit(block, {"bad " + std::to_string(lane)}));
    }
  }
  for (int lane = 0; lane < 3; ++lane) {
    ASSERT_TRUE(pool.Submit([&] { ++of_others; }, {"good " + std::to_string(lane)}));
  }
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (of_others < 3 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  EXPECT_EQ(of_others, 3);
  EXPECT_EQ(of_bad, 0);
  go.count_down();
  while (of_bad < kLanes * kEach) std::this_thread::yield();
}

// Storage nodes that hang, even if there are more of them than threads, leave threads to calls for
// local devices, each of which has a lane of its own.
TEST(WorkerPool, AnyNumberOfBlockedLanesLeavesThreadsToLocalLanes) {
  WorkerPool pool(Small(128));
  std::latch go(1);
  std::atomic<int> of_bad = 0;
  std::atomic<int> of_local = 0;
  constexpr int kNodes = 200, kDevices = 50, kEach = 3;
  for (int i = 0; i < kEach * kNodes; ++i) {
    auto block = [&] {
      go.wait();
      ++of_bad;
    };
    ASSERT_TRUE(pool.Submit(block, {"node " + std::to_string(i % kNodes)}));
  }
  for (int i = 0; i < kEach * kDevices; ++i) {
    const api::Neighbour device{.name = "device " + std::to_string(i % kDevices), .is_local = true};
    ASSERT_TRUE(pool.Submit([&] { ++of_local; }, device));
  }
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (of_local < kEach * kDevices && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  EXPECT_EQ(of_local, kEach * kDevices);
  EXPECT_EQ(of_bad, 0);
  go.count_down();
  while (of_bad < kEach * kNodes) std::this_thread::yield();
}

TEST(WorkerPool, WorkHeldForItsLaneCountsAsWaiting) {
  WorkerPool::Options options = Small(4);
  options.max_of_lane = 1;
  options.max_waiting = 3;
  WorkerPool pool(options);
  std::latch go(1);
  int taken = 0;
  while (taken < 20 && pool.Submit([&] { go.wait(); }, {"a"})) ++taken;
  EXPECT_GE(taken, 3);
  EXPECT_LE(taken, 5);
  go.count_down();
}

TEST(WorkerPool, IdleThreadsEnd) {
  WorkerPool pool(Small(4));
  std::latch all_run(4);
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(pool.Submit([&] { all_run.arrive_and_wait(); }));
  }
  all_run.wait();
  while (pool.thread_count() > 0) std::this_thread::sleep_for(milliseconds(1));
  std::latch again(1);
  ASSERT_TRUE(pool.Submit([&] { again.count_down(); }));
  again.wait();
}

size_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  size_t size_pages = 0, resident_pages = 0;
  file >> size_pages >> resident_pages;
  return resident_pages * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

// Until malloc_trim() is called, the allocator keeps memory that was freed below an allocation that
// is still in use.
TEST(WorkerPool, IdleThreadsGiveMemoryBack) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__clang__)
  GTEST_SKIP() << "sanitizers replace the allocator";
#endif
  constexpr size_t kPiece = 32 << 10, kPieces = 2048;
  WorkerPool pool(Small(1));
  std::vector<std::unique_ptr<char[]>> pieces(kPieces);
  size_t freed_bytes = 0;
  std::latch freed(1);
  ASSERT_TRUE(pool.Submit([&] {
    for (auto& piece : pieces) {
      piece = std::make_unique<char[]>(kPiece);  // zeroed, so that the pages are resident
    }
    for (size_t i = 0; i + 1 < kPieces; ++i) pieces[i].reset();
    freed_bytes = ResidentBytes();
    freed.count_down();
  }));
  freed.wait();
  while (pool.thread_count() > 0) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_LT(ResidentBytes() + kPieces * kPiece / 2, freed_bytes);
}

TEST(WorkerPool, SequentialCallsNeedOneThread) {
  WorkerPool::Options options = Small(8);
  options.idle_time = std::chrono::seconds(60);
  WorkerPool pool(options);
  for (int i = 0; i < 100; ++i) {
    std::latch done(1);
    ASSERT_TRUE(pool.Submit([&] { done.count_down(); }));
    done.wait();
  }
  // A thread that has just finished its work may not be idle yet when the next work item is
  // submitted.
  EXPECT_LE(pool.thread_count(), 3u);
}

TEST(WorkerPool, RefusesWorkBeyondMaxWaiting) {
  WorkerPool::Options options = Small(1);
  options.max_waiting = 2;
  std::latch running(1), go(1);
  int run = 0;
  {
    WorkerPool pool(options);
    ASSERT_TRUE(pool.Submit([&] {
      running.count_down();
      go.wait();
    }));
    running.wait();
    EXPECT_TRUE(pool.Submit([&] { ++run; }));
    EXPECT_TRUE(pool.Submit([&] { ++run; }));
    EXPECT_FALSE(pool.Submit([&] { ++run; }));
    go.count_down();
  }
  EXPECT_EQ(run, 2) << "accepted work runs before the pool ends";
}

}  // namespace
}  // namespace sma::service
