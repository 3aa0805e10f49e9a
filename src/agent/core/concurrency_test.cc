// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/core/testing/agent_fixture.h"
#include "base/lock_table.h"

namespace sma::core {
namespace {

using absl::StatusCode;

class ConcurrencyTest : public AgentFixture {
 protected:
  void RunInThreads(int count, const std::function<void(int)>& run) {
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i) threads.emplace_back([&run, i] { run(i); });
    for (std::thread& thread : threads) thread.join();
  }
};

TEST_F(ConcurrencyTest, SixtyFourCallersCreateUseAndDeleteDevices) {
  constexpr int kCallers = 64;
  for (int i = 0; i < 2 * kCallers; ++i) target_.AddBdev(VolumeUuid(1 + i));
  const std::string before = target_.Dump();
  RunInThreads(kCallers, [this](int i) {
    for (int round = 0; round < 5; ++round) {
      EXPECT_TRUE(Create(i, 1 + 2 * i).ok());
      EXPECT_TRUE(Attach(Handle(i), 2 + 2 * i).ok());
      EXPECT_TRUE(Detach(Handle(i), 1 + 2 * i).ok());
      EXPECT_TRUE(Delete(Handle(i)).ok());
    }
  });
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(core_->record().volume_count(), 0u);
}

TEST_F(ConcurrencyTest, Defect30_CallersOfOneDeviceDoNotWaitForEachOther) {
  constexpr int kCallers = 16;
  for (int i = 0; i < kCallers; ++i) target_.AddBdev(VolumeUuid(1 + i));
  ASSERT_TRUE(Create(0).ok());
  target_.SetRoundTrip(std::chrono::milliseconds(50));
  auto start = std::chrono::steady_clock::now();
  RunInThreads(kCallers, [this](int i) { EXPECT_TRUE(Attach(Handle(0), 1 + i).ok()); });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(50 * kCallers / 2));
  EXPECT_EQ(Namespaces(0).size(), static_cast<size_t>(kCallers));
}

TEST_F(ConcurrencyTest, OneOfManyCallersGetsTheVolume) {
  constexpr int kCallers = 16;
  target_.AddBdev(VolumeUuid(1));
  std::atomic<int> succeeded = 0;
  RunInThreads(kCallers, [&](int i) {
    absl::Status status = Create(i, 1);
    if (status.ok()) ++succeeded;
    EXPECT_TRUE(status.ok() || status.code() == StatusCode::kAlreadyExists) << status;
  });
  EXPECT_EQ(succeeded, 1);
  EXPECT_EQ(core_->record().device_count(), 1u);
}

TEST_F(ConcurrencyTest, SameCallFromManyCallersCreatesOneDevice) {
  target_.AddBdev(VolumeUuid(1));
  RunInThreads(16, [this](int) { EXPECT_TRUE(Create(0, 1).ok()); });
  EXPECT_EQ(Namespaces(0).size(), 1u);
  RunInThreads(16, [this](int) { EXPECT_TRUE(Delete(Handle(0)).ok()); });
  EXPECT_TRUE(Subsystem(0).is_null());
}

// Successful calls remain in effect while the target repeatedly restarts and loses its state.
TEST_F(ConcurrencyTest, TargetRestartsUnderCalls) {
  constexpr int kCallers = 8;
  auto add_bdevs = [this] {
    for (int i = 0; i < kCallers; ++i) target_.AddBdev(VolumeUuid(1 + i));
  };
  add_bdevs();
  std::atomic<bool> stop = false;
  std::thread restarter([&] {
    for (int i = 0; i < 5; ++i) {
      target_.Restart();
      add_bdevs();
      WaitUntilServing();
    }
    stop = true;
  });
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&, i] {
      while (!stop) {
        Create(i, 1 + i).IgnoreError();
        Delete(Handle(i)).IgnoreError();
      }
      auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (!Create(i, 1 + i).ok() && std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    });
  }
  restarter.join();
  for (std::thread& caller : callers) caller.join();
  for (int i = 0; i < kCallers; ++i) {
    WaitFor([&] { return Namespaces(i) == std::vector<std::string>{VolumeUuid(1 + i)}; });
  }
  EXPECT_EQ(core_->record().device_count(), static_cast<size_t>(kCallers));
}

TEST(LockTableTest, WaitsAsLongAsTheContextAllows) {
  LockTable table;
  base::Context context = base::Context::Background();
  auto held = table.Acquire(context, {LockTable::Device("a")});
  ASSERT_TRUE(held.ok());
  base::Context short_context = base::Context::WithTimeout(std::chrono::milliseconds(5));
  EXPECT_EQ(table.Acquire(short_context, {LockTable::Device("a", true)}).status().code(),
            StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(table.Acquire(context, {LockTable::Device("b")}).ok());
  base::Context cancelled = base::Context::Background();
  std::thread canceller([&] { cancelled.Cancel(); });
  EXPECT_EQ(table.Acquire(cancelled, {LockTable::Device("a")}).status().code(),
            StatusCode::kCancelled);
  canceller.join();
  *held = LockTable::Held();
  EXPECT_TRUE(table.Acquire(context, {LockTable::Device("a")}).ok());
}

TEST(LockTableTest, NewSharersWaitBehindAnExclusiveWaiter) {
  LockTable table;
  base::Context context = base::Context::Background();
  auto first = table.Acquire(context, {LockTable::Device("a", true)});
  auto second = table.Acquire(context, {LockTable::Device("a", true)});
  ASSERT_TRUE(first.ok() && second.ok());
  std::atomic<bool> has_it = false;
  std::thread exclusive([&] {
    auto held = table.Acquire(context, {LockTable::Device("a")});
    has_it = held.ok();
  });
  // Once an exclusive caller is waiting, a new shared caller does not overtake it.
  while (true) {
    base::Context brief = base::Context::WithTimeout(std::chrono::milliseconds(1));
    if (!table.Acquire(brief, {LockTable::Device("a", true)}).ok()) break;
  }
  EXPECT_FALSE(has_it);
  *first = LockTable::Held();
  *second = LockTable::Held();
  exclusive.join();
  EXPECT_TRUE(has_it);
  EXPECT_TRUE(table.Acquire(context, {LockTable::Device("a", true)}).ok());
}

// Behind a holder that is slow, a waiting exclusive caller does not hold back sharers.
TEST(LockTableTest, SharersPassAnExclusiveWaiterThatASlowSharerDelays) {
  LockTable table;
  base::Context context = base::Context::Background();
  auto slow = table.Acquire(context, {LockTable::Device("a", true)});
  ASSERT_TRUE(slow.ok());
  std::atomic<bool> has_it = false;
  std::thread exclusive([&] {
    auto held = table.Acquire(context, {LockTable::Device("a")});
    has_it = held.ok();
  });
  while (true) {
    base::Context brief = base::Context::WithTimeout(std::chrono::milliseconds(1));
    if (!table.Acquire(brief, {LockTable::Device("a", true)}).ok()) break;
  }
  for (int i = 0; i < 3; ++i) {
    base::Context limited = base::Context::WithTimeout(std::chrono::seconds(10));
    EXPECT_TRUE(table.Acquire(limited, {LockTable::Device("a", true)}).ok());
  }
  EXPECT_FALSE(has_it);
  *slow = LockTable::Held();
  exclusive.join();
  EXPECT_TRUE(has_it);
}

}  // namespace
}  // namespace sma::core
