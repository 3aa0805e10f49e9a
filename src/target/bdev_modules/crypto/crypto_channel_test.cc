#include "target/bdev_modules/crypto/crypto_channel.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "target/bdev/test_bdev.h"
#include "target/bdev_modules/crypto/crypto_bdev.h"

namespace sma::target::bdev_modules {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::Registry;
using bdev::TestIo;

// On a base that keeps what it is given, and on one of any size without a medium.
class CryptoChannelTest : public testing::Test {
 protected:
  static constexpr uint32_t kBlockSize = 4096;

  void Open() {
    ASSERT_EQ(registry_.Register(std::make_unique<bdev::TestBdev>(
                  bdev::Bdev::Info{
                      .name = "Base", .block_size = kBlockSize, .block_count = uint64_t{1} << 32},
                  base_)),
              0);
    ASSERT_EQ(module_.keys().Create({.name = "k0",
                                     .key = "1234567890abcdef1234567890abcdef",
                                     .key2 = "fedcba0987654321fedcba0987654321"}),
              0);
    ASSERT_EQ(module_.Create("Crypt", "Base", module_.keys().Find("k0"), false), 0);
    descriptor_ = std::move(*registry_.Open("Crypt", Registry::Access::kWrite, &events_));
    channel_ = descriptor_->OpenChannel(*reactor_);
  }
  // Writes of the same bytes, as many as are asked for.
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
  bdev::TestEvents events_;
  std::unique_ptr<Reactor> reactor_ = Reactor::ForThisThread({});
  Registry registry_{*reactor_};
  CryptoModule module_{registry_};
  std::unique_ptr<bdev::Descriptor> descriptor_;
  std::unique_ptr<bdev::Channel> channel_;
};

TEST_F(CryptoChannelTest, AbortEndsWhatWaitsForABuffer) {
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
  EXPECT_EQ(base_.pending.size(), 32U);  // the buffer went to the next
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

TEST_F(CryptoChannelTest, ABaseThatStartsToFailEndsAllThatWaitsWithoutRecursion) {
  Open();
  std::vector<std::unique_ptr<TestIo>> writes;
  for (int i = 0; i < 60'000; ++i) writes.push_back(Write(1));
  base_.complete_at_once = true;
  base_.status = IoStatus::kFailed;
  CompleteOne(IoStatus::kFailed);
  while (!base_.pending.empty()) CompleteOne(IoStatus::kFailed);
  for (const auto& write : writes) ASSERT_EQ(write->result, IoStatus::kFailed);
  EXPECT_EQ(channel_->outstanding(), 0U);
}

// As a guest may send: a few megabytes of memory, again and again.
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

}  // namespace
}  // namespace sma::target::bdev_modules
