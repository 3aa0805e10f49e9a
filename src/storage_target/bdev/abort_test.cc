// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage_target/bdev/channel.h"
#include "storage_target/bdev/testing/channel_fixture.h"

namespace sma::storage_target::bdev {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;

using AbortTest = ChannelTest;

TEST_F(AbortTest, AbortEndsIosThatWaitForTheEmulatorAndSendsNoFurtherPiece) {
  Open();
  module_.complete_at_once = false;
  // Consists of three pieces of 128 KiB.
  TestIo first(IoType::kWriteZeroes, 0, 768, kBlockSize);
  TestIo second(IoType::kWriteZeroes, 1000, 768, kBlockSize);
  TestIo third(IoType::kCompare, 0, 1, kBlockSize);
  for (TestIo* io : {&first, &second, &third}) channel_->Submit(*io);
  EXPECT_TRUE(channel_->Abort(second));
  EXPECT_EQ(second.result, IoStatus::kAborted);
  EXPECT_FALSE(channel_->Abort(first));
  EXPECT_FALSE(first.result.has_value());
  test_channel().CompletePending(IoStatus::kOk);
  EXPECT_EQ(first.result, IoStatus::kAborted);
  test_channel().CompletePending(IoStatus::kOk);
  EXPECT_EQ(third.result, IoStatus::kOk);
  EXPECT_THAT(module_.seen_types, ElementsAre(IoType::kWrite, IoType::kRead));
}

TEST_F(AbortTest, AbortOfTheOutstandingPieceEndsTheIoIfTheModuleCanAbort) {
  Open();
  module_.complete_at_once = false;
  module_.can_abort = true;
  TestIo zeroes(IoType::kWriteZeroes, 0, 768, kBlockSize);
  TestIo plain(IoType::kWrite, 0, 1, kBlockSize);
  channel_->Submit(zeroes);
  channel_->Submit(plain);
  EXPECT_TRUE(channel_->Abort(zeroes));
  EXPECT_EQ(zeroes.result, IoStatus::kAborted);
  EXPECT_TRUE(channel_->Abort(plain));
  EXPECT_EQ(plain.result, IoStatus::kAborted);
  EXPECT_EQ(channel_->outstanding(), 0U);
  EXPECT_EQ(module_.seen_types.size(), 2U);
}

// When the first I/O completes, the second, which was held with it, is no longer held.
TEST_F(AbortTest, AnIoThatIsAboutToBeDispatchedCanBeAborted) {
  Open();
  module_.complete_at_once = false;
  TestIo before(IoType::kRead, 0, 1, kBlockSize);
  channel_->Submit(before);
  registry_.Reset(channel_->bdev(), [](int) {});
  ASSERT_TRUE(reactor_->RunUntil([&] { return module_.channel_resets == 1; }, seconds(10)));
  module_.complete_at_once = true;
  TestIo first(IoType::kWrite, 0, 1, kBlockSize);
  TestIo second(IoType::kWrite, 1, 1, kBlockSize);
  std::optional<bool> aborted;
  first.then = [&] { aborted = channel_->Abort(second); };
  channel_->Submit(first);
  channel_->Submit(second);
  test_channel().CompletePending(IoStatus::kOk);
  ASSERT_TRUE(reactor_->RunUntil([&] { return first.result.has_value(); }, seconds(10)));
  EXPECT_EQ(aborted, true);
  EXPECT_EQ(second.result, IoStatus::kAborted);
  EXPECT_THAT(module_.seen_types, ElementsAre(IoType::kRead, IoType::kWrite));
}

}  // namespace
}  // namespace sma::storage_target::bdev
