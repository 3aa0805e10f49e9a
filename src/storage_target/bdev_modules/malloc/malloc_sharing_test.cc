// SPDX-License-Identifier: Apache-2.0

// Tests of memory disks that several reactors use.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "storage_target/bdev/medium_copy.h"
#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/bdev_modules/malloc/malloc_bdev.h"

namespace sma::storage_target::bdev_malloc {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::Registry;
using bdev::TestIo;

constexpr uint32_t kSharedBlockSize = 4096;
constexpr uint64_t kSharedBlocks = 256;  // the size that one I/O copies without being split
constexpr uint64_t kLargeBlocks = 2 * kSharedBlocks + 1;

class MallocSharingTest : public testing::Test {
 protected:
  struct Side {
    std::unique_ptr<Reactor> reactor;
    std::unique_ptr<bdev::Channel> channel;
  };

  void SetUp() override {
    auto made =
        MakeMallocBdev({.name = "M", .block_size = kSharedBlockSize, .block_count = kLargeBlocks});
    ASSERT_TRUE(made.ok());
    ASSERT_EQ(registry_.Register(std::move(*made)), 0);
    auto opened = registry_.Open("M", Registry::Access::kWrite, &events_);
    ASSERT_TRUE(opened.ok());
    descriptor_ = std::move(*opened);
    for (int i = 0; i < 2; ++i) {
      sides_[i].reactor = Reactor::Start({.index = i});
      sides_[i].reactor->Invoke(
          [&] { sides_[i].channel = descriptor_->OpenChannel(*sides_[i].reactor); });
    }
  }

  void TearDown() override {
    for (Side& side : sides_) side.reactor->Invoke([&] { side.channel.reset(); });
    for (Side& side : sides_) side.reactor->Stop();
  }

  // Submits `io` on the reactor of `side` and waits for its completion.
  IoStatus RunIn(Side& side, TestIo& io) {
    std::atomic<bool> done{false};
    io.result.reset();
    io.then = [&] { done = true; };
    side.reactor->Invoke([&] { side.channel->Submit(io); });
    while (!done) std::this_thread::yield();
    return *io.result;
  }
  const std::byte* InPlace(Side& side) {
    const std::byte* memory = nullptr;
    side.reactor->Invoke([&] { memory = side.channel->ReadInPlace(0, 1); });
    return memory;
  }

  bdev::TestEvents events_;
  std::unique_ptr<Reactor> control_ = Reactor::ForThisThread({});
  Registry registry_{*control_};
  std::unique_ptr<bdev::Descriptor> descriptor_;
  Side sides_[2];
};

bool IsWhole(const std::byte* block) {
  return std::all_of(block, block + kSharedBlockSize,
                     [block](std::byte each) { return each == block[0]; });
}

// Writes and reads the first blocks in one reactor as a transport would, that is, in place if
// possible.
void WriteAndRead(bdev::Channel& channel, int rounds, std::byte first_value, int& torn) {
  constexpr uint64_t kBlocksAtOnce = 4;
  std::byte value = first_value;
  TestIo write(IoType::kWrite, 0, kBlocksAtOnce, kSharedBlockSize);
  TestIo read(IoType::kRead, 0, kBlocksAtOnce, kSharedBlockSize);
  for (int round = 0; round < rounds; ++round) {
    value = std::byte(std::to_integer<int>(value) + 2);
    std::fill(write.data.begin(), write.data.end(), value);
    if (std::byte* memory = channel.WriteInPlace(0, kBlocksAtOnce)) {
      bdev::CopyToMedium(memory, write.data.data(), write.data.size());
      bdev::OrderMediumCopies();
    } else {
      channel.Submit(write);
    }
    const std::byte* blocks = channel.ReadInPlace(0, kBlocksAtOnce);
    if (blocks == nullptr) {
      channel.Submit(read);
      blocks = read.data.data();
    }
    for (uint64_t i = 0; i < kBlocksAtOnce; ++i) {
      if (!IsWhole(blocks + i * kSharedBlockSize)) ++torn;
    }
  }
}

TEST_F(MallocSharingTest, BlocksThatTwoReactorsWriteAndReadAreNotTorn) {
  for (Side& side : sides_) {  // from here on, I/O completes within Submit
    TestIo io(IoType::kWrite, 0, 4, kSharedBlockSize);
    ASSERT_EQ(RunIn(side, io), IoStatus::kOk);
  }
  int torn[2] = {0, 0};
  std::atomic<int> running{2};
  for (int i = 0; i < 2; ++i) {
    sides_[i].reactor->Post([&, i] {
      WriteAndRead(*sides_[i].channel, 20000, std::byte(i), torn[i]);
      --running;
    });
  }
  while (running != 0) std::this_thread::yield();
  EXPECT_EQ(torn[0], 0);
  EXPECT_EQ(torn[1], 0);
}

TEST_F(MallocSharingTest, BlocksThatAreUnmappedConcurrentlyAreNotTorn) {
  std::atomic<bool> stop{false};
  std::atomic<int> torn{0};
  TestIo first(IoType::kWrite, 0, kSharedBlocks, kSharedBlockSize, std::byte{1});
  for (Side& side : sides_) ASSERT_EQ(RunIn(side, first), IoStatus::kOk);
  sides_[1].reactor->Post([&] {
    TestIo read(IoType::kRead, 0, kSharedBlocks, kSharedBlockSize);
    while (!stop) {
      sides_[1].channel->Submit(read);
      for (uint64_t i = 0; i < kSharedBlocks; ++i) {
        if (!IsWhole(read.data.data() + i * kSharedBlockSize)) ++torn;
      }
    }
  });
  TestIo fill(IoType::kWrite, 0, kSharedBlocks, kSharedBlockSize, std::byte{1});
  TestIo unmap(IoType::kUnmap, 0, kSharedBlocks, kSharedBlockSize);
  for (int round = 0; round < 300; ++round) {
    EXPECT_EQ(RunIn(sides_[0], fill), IoStatus::kOk);
    EXPECT_EQ(RunIn(sides_[0], unmap), IoStatus::kOk);
  }
  stop = true;
  sides_[1].reactor->Invoke([] {});
  EXPECT_EQ(torn, 0);
}

// The large I/Os start while one reactor owns the disk and continue when two share it.
TEST_F(MallocSharingTest, BlocksOfLargeIosAreNotTorn) {
  TestIo first(IoType::kWrite, 0, kLargeBlocks, kSharedBlockSize, std::byte{1});
  TestIo second(IoType::kWrite, 0, kLargeBlocks, kSharedBlockSize, std::byte{2});
  TestIo read(IoType::kRead, 0, kLargeBlocks, kSharedBlockSize);
  std::atomic<bool> done{false};
  first.then = [&] { done = true; };
  for (int round = 0; round < 50; ++round) {
    done = false;
    sides_[0].reactor->Invoke([&] { sides_[0].channel->Submit(first); });
    ASSERT_EQ(RunIn(sides_[1], second), IoStatus::kOk);
    while (!done) std::this_thread::yield();
    ASSERT_EQ(RunIn(sides_[round % 2], read), IoStatus::kOk);
    for (uint64_t i = 0; i < kLargeBlocks; ++i) {
      const std::byte* block = read.data.data() + i * kSharedBlockSize;
      ASSERT_TRUE(IsWhole(block) && (block[0] == std::byte{1} || block[0] == std::byte{2})) << i;
    }
  }
}

TEST_F(MallocSharingTest, OnlyOneReactorAccessesInPlace) {
  EXPECT_NE(InPlace(sides_[0]), nullptr);
  EXPECT_EQ(InPlace(sides_[1]), nullptr);
  EXPECT_NE(InPlace(sides_[0]), nullptr);  // an idle channel elsewhere costs nothing
  TestIo io(IoType::kRead, 0, 1, kSharedBlockSize);
  EXPECT_EQ(RunIn(sides_[1], io), IoStatus::kOk);
  EXPECT_EQ(InPlace(sides_[0]), nullptr);
  sides_[0].reactor->Invoke([&] { EXPECT_FALSE(sides_[0].channel->IsInPlace()); });
  sides_[1].reactor->Invoke([&] { sides_[1].channel.reset(); });
  EXPECT_NE(InPlace(sides_[0]), nullptr);
}

TEST_F(MallocSharingTest, AnIoThatWaitsForTheOwnerIsAborted) {
  EXPECT_NE(InPlace(sides_[0]), nullptr);
  TestIo io(IoType::kWrite, 0, 1, kSharedBlockSize, std::byte{7});
  std::atomic<bool> release{false};
  sides_[0].reactor->Post([&] {
    while (!release) std::this_thread::yield();
  });
  sides_[1].reactor->Invoke([&] {
    sides_[1].channel->Submit(io);
    EXPECT_FALSE(io.result.has_value());
    EXPECT_TRUE(sides_[1].channel->Abort(io));
    sides_[1].channel.reset();
  });
  release = true;
  EXPECT_EQ(io.result, IoStatus::kAborted);
  TestIo read(IoType::kRead, 0, 1, kSharedBlockSize);
  EXPECT_EQ(RunIn(sides_[0], read), IoStatus::kOk);
  EXPECT_EQ(read.data[0], std::byte{0});
}

TEST_F(MallocSharingTest, TheOwnerMayLeaveWhileAnotherWaits) {
  EXPECT_NE(InPlace(sides_[0]), nullptr);
  TestIo io(IoType::kWrite, 0, 1, kSharedBlockSize, std::byte{7});
  std::atomic<bool> done{false};
  io.then = [&] { done = true; };
  sides_[0].reactor->Invoke([&] {
    sides_[1].reactor->Invoke([&] { sides_[1].channel->Submit(io); });
    sides_[0].channel.reset();
  });
  while (!done) std::this_thread::yield();
  EXPECT_EQ(io.result, IoStatus::kOk);
  EXPECT_NE(InPlace(sides_[1]), nullptr);
}

}  // namespace
}  // namespace sma::storage_target::bdev_malloc
