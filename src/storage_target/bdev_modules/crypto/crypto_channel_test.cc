// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/crypto/crypto_channel.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "storage_target/bdev_modules/crypto/testing/crypto_fixture.h"

namespace sma::storage_target::bdev_crypto {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using std::chrono::seconds;

// Uses a base that keeps its I/Os pending, or one of any size without a medium.
class CryptoChannelTest : public CryptoFixture {
 protected:
  void Open() {
    OpenOn(std::make_unique<bdev::TestBdev>(
               bdev::Bdev::Info{
                   .name = "Base", .block_size = kBlockSize, .block_count = uint64_t{1} << 32},
               base_),
           {.name = "k0",
            .key = "1234567890abcdef1234567890abcdef",
            .key2 = "fedcba0987654321fedcba0987654321"});
  }
  // Returns a write of any number of blocks with the same bytes.
  std::unique_ptr<TestIo> Write(uint64_t blocks) {
    auto io = std::make_unique<TestIo>(IoType::kWrite, 0, 0, kBlockSize);
    io->block_count = blocks;
    io->iov = {data_.data(), blocks * kBlockSize};
    channel_->Submit(*io);
    return io;
  }
  void CompleteOne(IoStatus status) {
    bdev::Io& child = *base_.pending.front();
    std::vector<bdev::Io*> others(base_.pending.begin() + 1, base_.pending.end());
    base_.pending = {&child};
    static_cast<bdev::TestChannel&>(*child.channel).CompletePending(status);
    base_.pending.insert(base_.pending.end(), others.begin(), others.end());
  }

  std::vector<std::byte> data_ = std::vector<std::byte>(128 * kBlockSize);
  bdev::TestModule base_{.complete_at_once = false};
};

TEST_F(CryptoChannelTest, AbortEndsWritesThatWaitForABuffer) {
  Open();
  std::vector<std::unique_ptr<TestIo>> writes;
  for (int i = 0; i < 40; ++i) writes.push_back(Write(1));
  ASSERT_EQ(base_.pending.size(), 32U);
  EXPECT_TRUE(channel_->Abort(*writes[35]));
  EXPECT_EQ(writes[35]->result, IoStatus::kAborted);
  EXPECT_FALSE(channel_->Abort(*writes[0]));
  base_.can_abort = true;
  EXPECT_TRUE(channel_->Abort(*writes[1]));
  EXPECT_EQ(writes[1]->result, IoStatus::kAborted);
  EXPECT_EQ(base_.pending.size(), 32U);  // the buffer was reused by the next write
  while (!base_.pending.empty()) CompleteOne(IoStatus::kOk);
  EXPECT_EQ(base_.seen_types.size(), 39U);
  for (size_t i = 0; i < writes.size(); ++i) {
    EXPECT_EQ(writes[i]->result, i == 1 || i == 35 ? IoStatus::kAborted : IoStatus::kOk) << i;
  }
}

TEST_F(CryptoChannelTest, AbortSendsNoFurtherPiece) {
  Open();
  auto write = Write(128);  // two pieces
  EXPECT_FALSE(channel_->Abort(*write));
  CompleteOne(IoStatus::kOk);
  EXPECT_EQ(write->result, IoStatus::kAborted);
  EXPECT_EQ(base_.seen_types.size(), 1U);
}

TEST_F(CryptoChannelTest, ABaseThatStartsToFailEndsAllWaitingWritesWithoutRecursion) {
  Open();
  std::vector<std::unique_ptr<TestIo>> writes;
  for (int i = 0; i < 60'000; ++i) writes.push_back(Write(1));
  base_.complete_at_once = true;
  base_.status = IoStatus::kFailed;
  CompleteOne(IoStatus::kFailed);
  while (!base_.pending.empty()) CompleteOne(IoStatus::kFailed);
  ASSERT_TRUE(reactor_->RunUntil([this] { return channel_->outstanding() == 0; }, seconds(30)));
  for (const auto& write : writes) ASSERT_EQ(write->result, IoStatus::kFailed);
  EXPECT_EQ(channel_->outstanding(), 0U);
}

// A guest can send such a write, whose buffers refer to the same few megabytes of memory many
// times.
TEST_F(CryptoChannelTest, AWriteOfManyPiecesNeedsNoStackForEach) {
  Open();
  base_.complete_at_once = true;
  constexpr uint64_t kPieceBytes = 256 * 1024;
  constexpr size_t kPieces = 20'000;
  data_.resize(kPieceBytes);
  std::vector<iovec> iovs(kPieces, iovec{data_.data(), kPieceBytes});
  TestIo write(IoType::kWrite, 0, 0, kBlockSize);
  write.block_count = kPieces * kPieceBytes / kBlockSize;
  write.iovs = iovs.data();
  write.iov_count = kPieces;
  EXPECT_EQ(RunIo(*channel_, write), IoStatus::kOk);
  EXPECT_EQ(base_.seen_types.size(), kPieces);
}

// A guest's request for gigabytes, or many requests of a host, must leave time for the I/O of
// others.
TEST_F(CryptoChannelTest, ReadsAndWritesAreEncryptedInTurns) {
  Open();
  base_.complete_at_once = true;
  constexpr uint64_t kBytes = 4 << 20;
  for (IoType type : {IoType::kWrite, IoType::kRead}) {
    TestIo large(type, 0, kBytes / kBlockSize, kBlockSize);
    TestIo small(type, 0, 1, kBlockSize);
    std::vector<int> ended;
    large.then = [&] { ended.push_back(1); };
    small.then = [&] { ended.push_back(2); };
    channel_->Submit(large);
    channel_->Submit(small);
    int rounds = 0;
    while (ended.size() < 2 && rounds < 100) {
      reactor_->RunUntil([] { return false; }, std::chrono::nanoseconds(1));
      ++rounds;
    }
    EXPECT_GE(rounds, 3);
    // I/Os that wait for the next round also take turns.
    EXPECT_EQ(ended, (std::vector<int>{2, 1}));
    EXPECT_EQ(large.result, IoStatus::kOk);
    EXPECT_EQ(small.result, IoStatus::kOk);
  }
}

TEST_F(CryptoChannelTest, WhatRestsIsAborted) {
  Open();
  base_.complete_at_once = true;
  for (IoType type : {IoType::kWrite, IoType::kRead}) {
    base_.seen_types.clear();
    TestIo large(type, 0, (4 << 20) / kBlockSize, kBlockSize);
    channel_->Submit(large);
    EXPECT_FALSE(channel_->Abort(large));
    EXPECT_FALSE(large.result);
    ASSERT_TRUE(reactor_->RunUntil([&] { return large.result.has_value(); }, seconds(30)));
    EXPECT_EQ(large.result, IoStatus::kAborted);
    EXPECT_LE(base_.seen_types.size(), 4U);  // of 256 KiB
  }
}

}  // namespace
}  // namespace sma::storage_target::bdev_crypto
