// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/malloc/malloc_bdev.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "storage_target/bdev/testing/test_bdev.h"

namespace sma::storage_target::bdev_malloc {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::Registry;
using bdev::TestIo;

constexpr uint32_t kBlockSize = 512;
constexpr uint64_t kBlocks = 512 * 1024;  // 256 MiB, most of which is never accessed

class MallocTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = MakeMallocBdev({.name = "M", .block_size = kBlockSize, .block_count = kBlocks});
    ASSERT_TRUE(made.ok());
    ASSERT_EQ(registry_.Register(std::move(*made)), 0);
    auto opened = registry_.Open("M", Registry::Access::kWrite, &events_);
    ASSERT_TRUE(opened.ok());
    descriptor_ = std::move(*opened);
    channel_ = descriptor_->OpenChannel(*reactor_);
  }

  void Fill(uint64_t lba, uint64_t blocks, std::byte value) {
    TestIo io(IoType::kWrite, lba, blocks, kBlockSize, value);
    ASSERT_EQ(RunIo(*channel_, io), IoStatus::kOk);
  }
  IoStatus Run(IoType type, uint64_t lba, uint64_t blocks) {
    TestIo io(type, lba, 1, kBlockSize);
    io.block_count = blocks;
    return RunIo(*channel_, io).value_or(IoStatus::kFailed);
  }
  // Returns the first byte of a block.
  int At(uint64_t lba) {
    TestIo io(IoType::kRead, lba, 1, kBlockSize);
    EXPECT_EQ(RunIo(*channel_, io), IoStatus::kOk);
    return std::to_integer<int>(io.data[0]);
  }
  bool IsResident(uint64_t lba) {
    unsigned char resident = 0;
    auto address = reinterpret_cast<uintptr_t>(channel_->ReadInPlace(lba, 1)) & ~uintptr_t{4095};
    EXPECT_EQ(::mincore(reinterpret_cast<void*>(address), 1, &resident), 0);
    return (resident & 1) != 0;
  }

  // Waits until the last page is populated. It is populated last, and the tests do not access it.
  bool WaitForPages() {
    return reactor_->RunUntil([this] { return IsResident(kBlocks - 1); }, std::chrono::seconds(60));
  }

  bdev::TestEvents events_;
  std::unique_ptr<Reactor> reactor_ = Reactor::ForThisThread({});
  Registry registry_{*reactor_};
  std::unique_ptr<bdev::Descriptor> descriptor_;
  std::unique_ptr<bdev::Channel> channel_;
};

TEST_F(MallocTest, ReadsWhatWasWritten) {
  TestIo write(IoType::kWrite, 3, 2, kBlockSize);
  for (size_t i = 0; i < write.data.size(); ++i) write.data[i] = std::byte(i % 251);
  iovec iovs[] = {{write.data.data(), 100}, {write.data.data() + 100, 924}};
  write.iovs = iovs;
  write.iov_count = 2;
  EXPECT_EQ(RunIo(*channel_, write), IoStatus::kOk);
  TestIo read(IoType::kRead, 3, 2, kBlockSize);
  EXPECT_EQ(RunIo(*channel_, read), IoStatus::kOk);
  EXPECT_EQ(read.data, write.data);
  EXPECT_EQ(At(5), 0);

  TestIo compare(IoType::kCompare, 3, 2, kBlockSize);
  EXPECT_EQ(RunIo(*channel_, compare), IoStatus::kMiscompare);
  compare.data = write.data;
  compare.iov = {compare.data.data(), compare.data.size()};
  EXPECT_EQ(RunIo(*channel_, compare), IoStatus::kOk);
}

TEST_F(MallocTest, InPlaceAccessIsTheMediumAndCounted) {
  std::byte* memory = channel_->WriteInPlace(8, 2);
  ASSERT_NE(memory, nullptr);
  memory[512] = std::byte{5};
  EXPECT_EQ(At(9), 5);
  EXPECT_EQ(channel_->ReadInPlace(8, 2), memory);
  EXPECT_EQ(channel_->ReadInPlace(kBlocks - 1, 2), nullptr);
  bdev::IoStats stats = channel_->bdev().stats();
  EXPECT_EQ(stats[IoType::kWrite].bytes, 2 * kBlockSize);
  EXPECT_EQ(stats[IoType::kRead].bytes, 3 * kBlockSize);
}

TEST_F(MallocTest, UnmapZeroesExactlyItsBlocksAndReleasesMemory) {
  ASSERT_TRUE(WaitForPages());
  Fill(0, 1024, std::byte{1});
  EXPECT_EQ(Run(IoType::kUnmap, 3, 1000), IoStatus::kOk);
  EXPECT_EQ(At(2), 1);
  EXPECT_EQ(At(3), 0);
  EXPECT_EQ(At(1002), 0);
  EXPECT_EQ(At(1003), 1);
  EXPECT_FALSE(IsResident(500));
  EXPECT_TRUE(IsResident(0));
}

TEST_F(MallocTest, LargeRangesAreZeroedInPartsAndInOrder) {
  Fill(0, 8, std::byte{1});
  Fill(kBlocks - 8, 8, std::byte{1});
  TestIo all(IoType::kWriteZeroes, 0, 1, kBlockSize);
  all.block_count = kBlocks;
  TestIo some(IoType::kUnmap, 0, 8, kBlockSize);
  std::vector<int> order;
  all.then = [&] { order.push_back(1); };
  some.then = [&] { order.push_back(2); };
  channel_->Submit(all);
  EXPECT_FALSE(all.result.has_value());
  EXPECT_EQ(RunIo(*channel_, some), IoStatus::kOk);
  EXPECT_THAT(order, testing::ElementsAre(1, 2));
  EXPECT_EQ(At(7), 0);
  EXPECT_EQ(At(kBlocks - 1), 0);
}

// Dataset Management commands with many ranges, and Write Zeroes commands of 64 MiB.
TEST_F(MallocTest, ZeroingLeavesTimeForOtherIo) {
  struct Case {
    size_t count;
    uint64_t bytes;
    int rounds;
  };
  for (const Case& c : {Case{64, 1 << 20, 60}, Case{8, 16 << 20, 15}, Case{1000, 64 << 10, 60}}) {
    Fill(0, 8, std::byte{1});
    std::vector<std::unique_ptr<TestIo>> ios;
    for (size_t i = 0; i < c.count; ++i) {
      const IoType type = i % 2 == 0 ? IoType::kUnmap : IoType::kWriteZeroes;
      auto& io = ios.emplace_back(
          std::make_unique<TestIo>(type, i * (c.bytes / kBlockSize), 1, kBlockSize));
      io->block_count = c.bytes / kBlockSize;
      channel_->Submit(*io);
    }
    int rounds = 0;
    while (!ios.back()->result && rounds < 10'000) {
      reactor_->RunUntil([] { return false; }, std::chrono::nanoseconds(1));
      ++rounds;
    }
    EXPECT_GE(rounds, c.rounds) << c.bytes;
    for (const auto& io : ios) EXPECT_EQ(io->result, IoStatus::kOk);
    EXPECT_EQ(At(0), 0);
  }
}

// A 1 GiB read of a guest leaves time for the I/O of others.
TEST_F(MallocTest, LargeReadsAndWritesAreCopiedInParts) {
  constexpr uint64_t kLargeBlocks = (9 << 20) / kBlockSize + 1;
  TestIo write(IoType::kWrite, 5, kLargeBlocks, kBlockSize);
  for (size_t i = 0; i < write.data.size(); ++i) write.data[i] = std::byte(i % 251);
  iovec iovs[] = {{write.data.data(), 100}, {write.data.data() + 100, write.data.size() - 100}};
  write.iovs = iovs;
  write.iov_count = 2;
  TestIo read(IoType::kRead, 5, kLargeBlocks, kBlockSize);
  for (TestIo* large : {&write, &read}) {
    channel_->Submit(*large);
    int rounds = 0;
    while (!large->result && rounds < 100) {
      EXPECT_EQ(At(0), 0);  // executed before the large I/O has ended
      reactor_->RunUntil([] { return false; }, std::chrono::nanoseconds(1));
      ++rounds;
    }
    EXPECT_EQ(large->result, IoStatus::kOk);
    EXPECT_GE(rounds, 9);
  }
  EXPECT_TRUE(read.data == write.data);
  EXPECT_EQ(At(4), 0);
  EXPECT_EQ(At(5 + kLargeBlocks), 0);
}

TEST_F(MallocTest, PagesArePopulatedBeforeTheyAreAccessed) {
  ASSERT_TRUE(WaitForPages());
  for (uint64_t lba = 0; lba < kBlocks; lba += 4096 / kBlockSize) {
    ASSERT_TRUE(IsResident(lba)) << lba;
  }
}

TEST_F(MallocTest, AnAbortedZeroingStops) {
  Fill(0, 8, std::byte{1});
  TestIo first(IoType::kWriteZeroes, 0, 1, kBlockSize);
  first.block_count = kBlocks;
  TestIo second(IoType::kUnmap, 0, 8, kBlockSize);
  channel_->Submit(first);
  channel_->Submit(second);
  EXPECT_TRUE(channel_->Abort(second));
  EXPECT_EQ(second.result, IoStatus::kAborted);
  EXPECT_FALSE(channel_->Abort(first));
  EXPECT_TRUE(
      reactor_->RunUntil([&] { return first.result.has_value(); }, std::chrono::seconds(10)));
  EXPECT_EQ(first.result, IoStatus::kAborted);
  EXPECT_EQ(At(0), 1);
}

TEST(MallocCreateTest, SizesAreChecked) {
  EXPECT_EQ(MakeMallocBdev({.name = "X", .block_count = 0}).error(), EINVAL);
  EXPECT_EQ(MakeMallocBdev({.name = "X", .block_count = UINT64_MAX / 512}).error(), ENOMEM);
}

TEST(MallocCreateTest, UnnamedBdevsAreNumbered) {
  auto first = MakeMallocBdev({.block_count = 8});
  auto second = MakeMallocBdev({.block_count = 8});
  EXPECT_EQ((*first)->name(), "Malloc0");
  EXPECT_EQ((*second)->name(), "Malloc1");
}

}  // namespace
}  // namespace sma::storage_target::bdev_malloc
