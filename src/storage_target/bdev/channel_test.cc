// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage_target/bdev/testing/channel_fixture.h"

namespace sma::storage_target::bdev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;

TEST_F(ChannelTest, RangesAreChecked) {
  Open();
  EXPECT_EQ(Run(IoType::kRead, kBlocks - 1, 1), IoStatus::kOk);
  EXPECT_EQ(Run(IoType::kRead, kBlocks - 1, 2), IoStatus::kOutOfRange);
  EXPECT_EQ(Run(IoType::kRead, kBlocks, 1), IoStatus::kOutOfRange);
  EXPECT_EQ(Run(IoType::kRead, 0, 0), IoStatus::kOutOfRange);
  TestIo io(IoType::kUnmap, UINT64_MAX, 1, kBlockSize);
  io.block_count = UINT64_MAX;
  EXPECT_EQ(Run(io), IoStatus::kOutOfRange);
  EXPECT_EQ(Run(IoType::kFlush, 0, 0), IoStatus::kOk);
  EXPECT_THAT(module_.seen_types, ElementsAre(IoType::kRead, IoType::kFlush));
}

TEST_F(ChannelTest, AReadOnlyBdevRefusesWrites) {
  Open({.read_only = true}, Registry::Access::kRead);
  EXPECT_EQ(Run(IoType::kWrite, 0, 1), IoStatus::kReadOnly);
  EXPECT_EQ(Run(IoType::kWriteZeroes, 0, 1), IoStatus::kReadOnly);
  EXPECT_EQ(Run(IoType::kUnmap, 0, 1), IoStatus::kReadOnly);
  EXPECT_EQ(Run(IoType::kRead, 0, 1), IoStatus::kOk);
}

TEST_F(ChannelTest, ADescriptorOpenedForReadingRefusesWrites) {
  Open({}, Registry::Access::kRead);
  EXPECT_EQ(Run(IoType::kWrite, 0, 1), IoStatus::kReadOnly);
  EXPECT_EQ(channel_->WriteInPlace(0, 1), nullptr);
}

TEST_F(ChannelTest, FuaIsEmulatedByAFlushAfterTheWrite) {
  Open({.write_cache = true});
  TestIo io(IoType::kWrite, 0, 1, kBlockSize);
  io.fua = true;
  EXPECT_EQ(Run(io), IoStatus::kOk);
  EXPECT_EQ(io.type, IoType::kWrite);
  EXPECT_THAT(module_.seen_types, ElementsAre(IoType::kWrite, IoType::kFlush));
}

TEST_F(ChannelTest, NoFlushFollowsAFailedFuaWriteOrWithoutACache) {
  Open({.write_cache = true});
  module_.status = IoStatus::kFailed;
  TestIo io(IoType::kWrite, 0, 1, kBlockSize);
  io.fua = true;
  EXPECT_EQ(Run(io), IoStatus::kFailed);
  EXPECT_THAT(module_.seen_types, ElementsAre(IoType::kWrite));
}

TEST_F(ChannelTest, NativeFuaIsLeftToTheModule) {
  Open({.write_cache = true, .native_fua = true});
  TestIo io(IoType::kWrite, 0, 1, kBlockSize);
  io.fua = true;
  EXPECT_EQ(Run(io), IoStatus::kOk);
  EXPECT_THAT(module_.seen_types, ElementsAre(IoType::kWrite));
}

TEST_F(ChannelTest, WriteZeroesBecomesWritesInPieces) {
  Open({.write_cache = true});
  TestIo io(IoType::kWriteZeroes, 5, 600, kBlockSize);
  io.fua = true;
  EXPECT_EQ(Run(io), IoStatus::kOk);
  EXPECT_THAT(module_.seen_types,
              ElementsAre(IoType::kWrite, IoType::kWrite, IoType::kWrite, IoType::kFlush));
  EXPECT_THAT(module_.seen_blocks, ElementsAre(256, 256, 88, 0));
}

TEST_F(ChannelTest, EmulatedIoWaitsForItsPiecesAndKeepsOrder) {
  Open();
  module_.complete_at_once = false;
  std::vector<int> ended;
  TestIo first(IoType::kWriteZeroes, 0, 300, kBlockSize);
  TestIo second(IoType::kWriteZeroes, 0, 1, kBlockSize);
  first.then = [&] { ended.push_back(1); };
  second.then = [&] { ended.push_back(2); };
  channel_->Submit(first);
  channel_->Submit(second);
  EXPECT_EQ(channel_->outstanding(), 2U);
  test_channel().CompletePending(IoStatus::kOk);
  EXPECT_TRUE(ended.empty());
  test_channel().CompletePending(IoStatus::kNoSpace);
  EXPECT_THAT(ended, ElementsAre(1));
  EXPECT_EQ(first.result, IoStatus::kNoSpace);
  test_channel().CompletePending(IoStatus::kOk);
  EXPECT_THAT(ended, ElementsAre(1, 2));
  EXPECT_EQ(second.result, IoStatus::kOk);
}

// Other work of the reactor is executed while many large I/Os are in progress.
TEST_F(ChannelTest, EmulatedIosAreExecutedInTurns) {
  Open();
  constexpr uint64_t kTwoTurns = (2 << 20) / kBlockSize;
  TestIo first(IoType::kWriteZeroes, 0, 0, kBlockSize);
  TestIo second(IoType::kWriteZeroes, 0, 0, kBlockSize);
  TestIo third(IoType::kWriteZeroes, 0, 0, kBlockSize);
  for (TestIo* io : {&first, &second, &third}) {
    io->block_count = kTwoTurns;
    channel_->Submit(*io);
  }
  EXPECT_EQ(module_.seen_types.size(), 8U);  // of 128 KiB
  ASSERT_FALSE(first.result);
  EXPECT_FALSE(channel_->Abort(first));  // is resting
  EXPECT_FALSE(first.result);
  ASSERT_TRUE(reactor_->RunUntil([&] { return third.result.has_value(); }, seconds(30)));
  EXPECT_EQ(first.result, IoStatus::kAborted);
  EXPECT_EQ(second.result, IoStatus::kOk);
  EXPECT_EQ(third.result, IoStatus::kOk);
  EXPECT_EQ(module_.seen_types.size(), 8U + 2 * 16);
  EXPECT_EQ(channel_->outstanding(), 0U);
}

TEST_F(ChannelTest, CompareReadsAndCompares) {
  Open();
  module_.fill = std::byte{7};
  TestIo equal(IoType::kCompare, 0, 700, kBlockSize, std::byte{7});
  EXPECT_EQ(Run(equal), IoStatus::kOk);
  TestIo different(IoType::kCompare, 0, 700, kBlockSize, std::byte{7});
  different.data.back() = std::byte{8};
  EXPECT_EQ(Run(different), IoStatus::kMiscompare);
  // The boundaries of the buffers differ from those of the pieces.
  iovec iovs[] = {{different.data.data(), 1000},
                  {different.data.data() + 1000, different.data.size() - 1000}};
  different.iovs = iovs;
  different.iov_count = 2;
  different.result.reset();
  EXPECT_EQ(Run(different), IoStatus::kMiscompare);
  different.data.back() = std::byte{7};
  different.result.reset();
  EXPECT_EQ(Run(different), IoStatus::kOk);
}

TEST_F(ChannelTest, TheLastEmulatedIoMayDestroyItsChannel) {
  Open();
  TestIo io(IoType::kCompare, 0, 1, kBlockSize);
  io.then = [&] { channel_.reset(); };
  channel_->Submit(io);
  EXPECT_EQ(io.result, IoStatus::kOk);
  EXPECT_EQ(channel_, nullptr);
}

TEST_F(ChannelTest, FlushAndUnmapSucceedWithoutEffect) {
  module_.native_types = {IoType::kRead, IoType::kWrite};
  Open();
  EXPECT_EQ(Run(IoType::kFlush, 0, 0), IoStatus::kOk);
  EXPECT_EQ(Run(IoType::kUnmap, 0, 1), IoStatus::kOk);
  EXPECT_TRUE(module_.seen_types.empty());
}

TEST_F(ChannelTest, CountsOperationsBytesLatenciesAndErrors) {
  Open();
  module_.complete_at_once = false;
  TestIo slow(IoType::kRead, 0, 8, kBlockSize);
  channel_->Submit(slow);
  reactor_->RunUntil([] { return false; }, milliseconds(2));
  test_channel().CompletePending(IoStatus::kOk);
  module_.complete_at_once = true;
  Run(IoType::kRead, 0, 2);
  Run(IoType::kWrite, 0, 3);
  Run(IoType::kRead, kBlocks, 1);

  Bdev& bdev = channel_->bdev();
  IoStats stats = bdev.stats();
  EXPECT_EQ(stats[IoType::kRead].ops, 2U);
  EXPECT_EQ(stats[IoType::kRead].bytes, 10 * kBlockSize);
  EXPECT_GE(stats[IoType::kRead].max_latency_ns, 1'000'000U);
  EXPECT_GE(stats[IoType::kRead].latency_ns, stats[IoType::kRead].max_latency_ns);
  EXPECT_EQ(stats[IoType::kWrite].ops, 1U);
  EXPECT_EQ(stats[IoType::kWrite].bytes, 3 * kBlockSize);
  EXPECT_EQ(stats.errors, 1U);

  // Counters survive the channel and are cleared by a reset of the statistics.
  channel_.reset();
  EXPECT_EQ(bdev.stats()[IoType::kRead].ops, 2U);
  channel_ = descriptor_->OpenChannel(*reactor_);
  Run(IoType::kRead, 0, 1);
  bool done = false;
  registry_.ResetStats(bdev, Registry::StatsPart::kMinMax, [&] { done = true; });
  EXPECT_TRUE(reactor_->RunUntil([&] { return done; }, seconds(10)));
  EXPECT_EQ(bdev.stats()[IoType::kRead].ops, 3U);
  EXPECT_EQ(bdev.stats()[IoType::kRead].max_latency_ns, 0U);
  done = false;
  registry_.ResetStats(bdev, Registry::StatsPart::kAll, [&] { done = true; });
  EXPECT_TRUE(reactor_->RunUntil([&] { return done; }, seconds(10)));
  EXPECT_EQ(bdev.stats()[IoType::kRead].ops, 0U);
  EXPECT_EQ(bdev.stats().errors, 0U);
}

TEST_F(ChannelTest, AResetWaitsForOutstandingIoAndHoldsNewIo) {
  Open();
  module_.complete_at_once = false;
  TestIo before(IoType::kRead, 0, 1, kBlockSize);
  channel_->Submit(before);
  std::optional<int> outcome;
  registry_.Reset(channel_->bdev(), [&](int error) { outcome = error; });
  ASSERT_TRUE(reactor_->RunUntil([&] { return module_.channel_resets == 1; }, seconds(10)));
  module_.complete_at_once = true;
  TestIo during(IoType::kRead, 0, 1, kBlockSize);
  channel_->Submit(during);
  TestIo unwanted(IoType::kRead, 0, 1, kBlockSize);
  channel_->Submit(unwanted);
  EXPECT_FALSE(channel_->Abort(before));
  EXPECT_TRUE(channel_->Abort(unwanted));
  EXPECT_EQ(unwanted.result, IoStatus::kAborted);
  std::optional<int> second;
  registry_.Reset(channel_->bdev(), [&](int error) { second = error; });
  EXPECT_TRUE(reactor_->RunUntil([&] { return second.has_value(); }, seconds(10)));
  EXPECT_EQ(second, EBUSY);
  EXPECT_EQ(module_.device_resets, 0);
  EXPECT_FALSE(during.result.has_value());

  test_channel().CompletePending(IoStatus::kAborted);
  EXPECT_TRUE(reactor_->RunUntil([&] { return during.result.has_value(); }, seconds(10)));
  EXPECT_EQ(before.result, IoStatus::kAborted);
  EXPECT_EQ(during.result, IoStatus::kOk);
  EXPECT_EQ(outcome, 0);
  EXPECT_EQ(module_.device_resets, 1);
}

TEST_F(ChannelTest, AfterRemovalIoEndsWithGone) {
  Open();
  module_.complete_at_once = false;
  TestIo before(IoType::kRead, 0, 1, kBlockSize);
  channel_->Submit(before);
  registry_.Reset(channel_->bdev(), [](int) {});
  ASSERT_TRUE(reactor_->RunUntil([&] { return module_.channel_resets == 1; }, seconds(10)));
  TestIo held(IoType::kRead, 0, 1, kBlockSize);
  channel_->Submit(held);
  bool removed = false;
  registry_.Unregister(channel_->bdev(), [&] { removed = true; });
  EXPECT_TRUE(reactor_->RunUntil([&] { return held.result.has_value(); }, seconds(10)));
  EXPECT_EQ(held.result, IoStatus::kGone);
  TestIo late(IoType::kRead, 0, 1, kBlockSize);
  channel_->Submit(late);
  EXPECT_EQ(late.result, IoStatus::kGone);
  EXPECT_EQ(channel_->ReadInPlace(0, 1), nullptr);

  test_channel().CompletePending(IoStatus::kOk);
  EXPECT_EQ(before.result, IoStatus::kOk);
  EXPECT_FALSE(reactor_->RunUntil([&] { return removed; }, milliseconds(5)));
  descriptor_.reset();
  EXPECT_FALSE(reactor_->RunUntil([&] { return removed; }, milliseconds(5)));
  channel_.reset();
  EXPECT_TRUE(reactor_->RunUntil([&] { return removed; }, seconds(10)));
  EXPECT_EQ(module_.destroyed, 1);
}

}  // namespace
}  // namespace sma::storage_target::bdev
