// SPDX-License-Identifier: Apache-2.0

#include "base/log_limit.h"

#include <gtest/gtest.h>

#include <optional>

namespace sma::base {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(LogLimit, WritesABurstThenOneForEachPeriod) {
  LogLimit limit(3, 2);
  TimePoint now = TimePoint() + seconds(1000);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limit.Admit(now), std::optional<uint64_t>(0));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(limit.Admit(now), std::nullopt);
  now += milliseconds(500);
  EXPECT_EQ(limit.Admit(now), std::optional<uint64_t>(5));
  EXPECT_EQ(limit.Admit(now), std::nullopt);
  now += milliseconds(500);
  EXPECT_EQ(limit.Admit(now), std::optional<uint64_t>(1));
}

TEST(LogLimit, AQuietTimeAllowsNoMoreThanABurst) {
  LogLimit limit(2, 100);
  TimePoint now = TimePoint() + seconds(1000);
  EXPECT_TRUE(limit.Admit(now));
  now += seconds(60);
  EXPECT_TRUE(limit.Admit(now));
  EXPECT_TRUE(limit.Admit(now));
  EXPECT_FALSE(limit.Admit(now));
}

}  // namespace
}  // namespace sma::base
