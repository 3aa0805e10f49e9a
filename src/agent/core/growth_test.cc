// SPDX-License-Identifier: Apache-2.0

// Tests that the agent's memory does not grow with the number of calls.

#include <gtest/gtest.h>
#include <malloc.h>

#include "agent/core/testing/agent_fixture.h"

namespace sma::core {
namespace {

constexpr int kCalls = 24'000;
constexpr int kCallsOfADevice = 6;
constexpr size_t kMaxGrowth = 64 * 1024;

using GrowthTest = AgentFixture;

// Each iteration uses another device and another volume; half of the calls are refused.
TEST_F(GrowthTest, MemoryDoesNotGrowWithCalls) {
  constexpr int kDevices = kCalls / kCallsOfADevice;
  target_.SetWaits(false);
  size_t before = 0;
  for (int i = 1; i <= kDevices; ++i) {
    target_.AddBdev(VolumeUuid(i));
    ASSERT_TRUE(Create(i).ok());
    ASSERT_TRUE(Attach(Handle(i), i).ok());
    ASSERT_FALSE(Create(i + 1, i).ok());  // the volume is attached elsewhere
    ASSERT_TRUE(Detach(Handle(i), i).ok());
    ASSERT_FALSE(Attach(Handle(i), kDevices + i).ok());  // no such volume
    ASSERT_TRUE(Delete(Handle(i)).ok());
    Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(i)}});
    target_.ResetCounts();
    if (i == kDevices / 4) before = mallinfo2().uordblks;
  }
  const size_t after = mallinfo2().uordblks;
  EXPECT_EQ(core_->record().device_count() + core_->record().volume_count(), 0u);
  if (before == 0) GTEST_SKIP() << "this build does not tell the size of its heap";
  EXPECT_LT(after, before + kMaxGrowth);
}

}  // namespace
}  // namespace sma::core
