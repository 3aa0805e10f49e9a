// SPDX-License-Identifier: Apache-2.0

#include "devices/vhost_blk/known_controllers.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <ctime>

namespace sma::vhost_blk {
namespace {

TEST(KnownControllersTest, FindsTheOtherUsersOfABdev) {
  KnownControllers known;
  known.Replace(1, {{"sma-0", "disk0"}, {"sma-1", "disk1"}, {"sma-2", ""}});
  EXPECT_EQ(known.OtherUserOf("disk0", "sma-0"), std::nullopt);
  EXPECT_EQ(known.OtherUserOf("disk0", "sma-1"), "sma-0");
  EXPECT_EQ(known.OtherUserOf("disk", "sma-0"), std::nullopt);
  known.Add("mine", "disk0");
  EXPECT_EQ(known.OtherUserOf("disk0", "sma-0"), "mine");
  EXPECT_EQ(known.OtherUserOf("disk0", "mine"), "sma-0");
  known.Add("mine", "disk1");  // replaced
  EXPECT_EQ(known.OtherUserOf("disk0", "sma-0"), std::nullopt);
  EXPECT_EQ(known.OtherUserOf("disk1", "sma-1"), "mine");
  known.Remove("mine");
  known.Remove("mine");
  EXPECT_EQ(known.OtherUserOf("disk1", "sma-1"), std::nullopt);
  known.Replace(2, {});
  EXPECT_EQ(known.OtherUserOf("disk0", "none"), std::nullopt);
  EXPECT_TRUE(known.IsAbsent(2, "sma-0"));
}

TEST(KnownControllersTest, ManyControllersAreNotListedWithEachCreation) {
  KnownControllers known;
  EXPECT_TRUE(known.NeedsListing());
  KnownControllers::BdevNames names;
  for (size_t i = 1; i < KnownControllers::kFewControllers; ++i) names[fmt::format("sma-{}", i)];
  known.Merge(names);
  EXPECT_TRUE(known.NeedsListing());
  known.Merge({{"mine", "disk0"}});
  EXPECT_FALSE(known.NeedsListing());
  EXPECT_EQ(known.OtherUserOf("disk0", "sma-1"), "mine");
}

// Returns the processor time of this thread, in nanoseconds.
int64_t ProcessorTime() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

// Returns the processor time, in nanoseconds, for adding `count` controllers and checking for each
// whether another one uses its bdev.
int64_t TimeFor(int count) {
  KnownControllers known;
  const int64_t begin = ProcessorTime();
  for (int i = 0; i < count; ++i) {
    const std::string controller = fmt::format("sma-{}", i);
    const std::string bdev = fmt::format("disk{}", i);
    known.Add(controller, bdev);
    EXPECT_EQ(known.OtherUserOf(bdev, controller), std::nullopt);
  }
  return ProcessorTime() - begin;
}

TEST(KnownControllersTest, TenTimesTheControllersTakeAboutTenTimesTheTime) {
  TimeFor(1000);  // so that memory and code are there
  EXPECT_LT(TimeFor(20'000), 40 * TimeFor(2000));
}

}  // namespace
}  // namespace sma::vhost_blk
