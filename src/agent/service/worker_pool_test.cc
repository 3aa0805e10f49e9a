#include "agent/service/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
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

TEST(WorkerPool, GrowsAsFarAsItMay) {
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
  all_run.wait();  // ends only if all eight run at once
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(pool.Submit([&] { ++later; }));
  EXPECT_EQ(pool.thread_count(), 8u);
  EXPECT_EQ(later, 0);
  go.count_down();
  while (later < 20) std::this_thread::yield();
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

TEST(WorkerPool, OneThreadIsEnoughForOneCallAtATime) {
  WorkerPool::Options options = Small(8);
  options.idle_time = std::chrono::seconds(60);
  WorkerPool pool(options);
  for (int i = 0; i < 100; ++i) {
    std::latch done(1);
    ASSERT_TRUE(pool.Submit([&] { done.count_down(); }));
    done.wait();
  }
  // A thread that has just run its work may not be idle yet when the next comes.
  EXPECT_LE(pool.thread_count(), 3u);
}

TEST(WorkerPool, RefusesMoreThanMayWait) {
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
  EXPECT_EQ(run, 2) << "what was taken is run before the pool ends";
}

}  // namespace
}  // namespace sma::service
