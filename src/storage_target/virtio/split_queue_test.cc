// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/split_queue.h"

#include <gtest/gtest.h>

#include <memory>

#include "harness/vhost_user/guest_ram.h"
#include "harness/vhost_user/split_driver.h"
#include "storage_target/virtio/guest_memory.h"

namespace sma::storage_target::virtio {
namespace {

using harness::DriverBuffer;
using harness::GuestBuffer;
using harness::GuestRam;
using harness::SplitDriver;

constexpr uint64_t kGuestAddress = 0x10000;
constexpr size_t kRamBytes = 1 << 20;

class SplitQueueTest : public testing::Test {
 protected:
  void Make(const SplitDriver::Options& options) {
    ram_.FreeAll();
    driver_ = std::make_unique<SplitDriver>(ram_, options);
    queue_ = std::make_unique<SplitQueue>(SplitQueue::Options{
        .ring = driver_->ring(), .event_index = options.event_index, .indirect = options.indirect});
  }
  void SetUp() override {
    memory_ = GuestMemory();
    auto mapping = SharedMapping::Map(ram_.fd(), 0, kRamBytes);
    ASSERT_TRUE(mapping.ok());
    ASSERT_EQ(memory_.Add({kGuestAddress, kRamBytes, ram_.user_address(), *std::move(mapping)}), 0);
    Make({.size = 8});
  }

  // Writes a descriptor that no correct driver would write.
  void Describe(uint16_t index, uint64_t address, uint32_t size, uint16_t flags, uint16_t next) {
    driver_->ring().descriptors[index] = {address, size, flags, next};
  }
  ChainError Read(uint16_t head) { return queue_->ReadChain(head, memory_, chain_); }

  GuestRam ram_{kRamBytes, kGuestAddress, 0x7000'0000'0000};
  GuestMemory memory_;
  std::unique_ptr<SplitDriver> driver_;
  std::unique_ptr<SplitQueue> queue_;
  Chain chain_;
};

TEST_F(SplitQueueTest, TakesChainsInOrder) {
  GuestBuffer out = ram_.Allocate(100), in = ram_.Allocate(200);
  const DriverBuffer buffers[] = {{out.guest_address, 100, false}, {in.guest_address, 200, true}};
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(queue_->AvailableCount(), 0);
    std::optional<uint16_t> head = driver_->Add(buffers);
    ASSERT_TRUE(head);
    EXPECT_EQ(queue_->AvailableCount(), 0);
    driver_->Publish();
    ASSERT_EQ(queue_->AvailableCount(), 1);
    EXPECT_EQ(queue_->TakeHead(), *head);
    ASSERT_EQ(Read(*head), ChainError::kNone);
    EXPECT_EQ(chain_.readable_bytes(), 100u);
    EXPECT_EQ(chain_.writable_bytes(), 200u);
    queue_->PushUsed(*head, 77);
    EXPECT_FALSE(driver_->PopUsed());
    queue_->PublishUsed();
    auto used = driver_->PopUsed();
    ASSERT_TRUE(used);
    EXPECT_EQ(used->head, *head);
    EXPECT_EQ(used->written_bytes, 77u);
  }
}

TEST_F(SplitQueueTest, ReadsIndirectTables) {
  Make({.size = 8, .indirect = true});
  GuestBuffer data = ram_.Allocate(4096 * 20);
  std::vector<DriverBuffer> buffers;
  for (uint64_t i = 0; i < 20; ++i) {
    buffers.push_back({data.guest_address + i * 4096, 4096, i >= 10});
  }
  std::optional<uint16_t> head = driver_->Add(buffers);
  ASSERT_TRUE(head);
  ASSERT_EQ(Read(*head), ChainError::kNone);
  EXPECT_EQ(chain_.readable_bytes(), 10u * 4096);
  EXPECT_EQ(chain_.writable().size(), 10u);
}

TEST_F(SplitQueueTest, FollowsDescriptorsUpToAnIndirectOne) {
  Make({.size = 8, .indirect = true});
  GuestBuffer table = ram_.Allocate(2 * sizeof(Descriptor));
  auto* entries = reinterpret_cast<Descriptor*>(table.bytes.data());
  entries[0] = {kGuestAddress, 16, Descriptor::kNext, 1};
  entries[1] = {kGuestAddress, 8, Descriptor::kWrite, 0};
  Describe(3, kGuestAddress, 4, Descriptor::kNext, 5);
  Describe(5, table.guest_address, 32, Descriptor::kIndirect, 0);
  ASSERT_EQ(Read(3), ChainError::kNone);
  EXPECT_EQ(chain_.readable_bytes(), 20u);
  EXPECT_EQ(chain_.writable_bytes(), 8u);
}

TEST_F(SplitQueueTest, RefusesIndexesBeyondTheTable) {
  EXPECT_EQ(Read(8), ChainError::kBadIndex);
  EXPECT_EQ(Read(0xffff), ChainError::kBadIndex);
  Describe(0, kGuestAddress, 4, Descriptor::kNext, 8);
  EXPECT_EQ(Read(0), ChainError::kBadIndex);
}

TEST_F(SplitQueueTest, RefusesLoops) {
  Describe(0, kGuestAddress, 4, Descriptor::kNext, 1);
  Describe(1, kGuestAddress, 4, Descriptor::kNext, 0);
  EXPECT_EQ(Read(0), ChainError::kTooLong);
  Describe(2, kGuestAddress, 0, Descriptor::kNext, 2);
  EXPECT_EQ(Read(2), ChainError::kTooLong);
}

TEST_F(SplitQueueTest, RefusesAddressesOutsideGuestMemory) {
  Describe(0, 0, 4, 0, 0);
  EXPECT_EQ(Read(0), ChainError::kBadAddress);
  Describe(0, kGuestAddress + kRamBytes - 2, 4, 0, 0);
  EXPECT_EQ(Read(0), ChainError::kBadAddress);
  Describe(0, UINT64_MAX - 1, 4, 0, 0);
  EXPECT_EQ(Read(0), ChainError::kBadAddress);
  Describe(0, kGuestAddress, 0xffffffff, 0, 0);
  EXPECT_EQ(Read(0), ChainError::kBadAddress);
}

TEST_F(SplitQueueTest, RefusesReadableAfterWritable) {
  Describe(0, kGuestAddress, 4, Descriptor::kWrite | Descriptor::kNext, 1);
  Describe(1, kGuestAddress, 4, 0, 0);
  EXPECT_EQ(Read(0), ChainError::kBadOrder);
}

TEST_F(SplitQueueTest, RefusesBadIndirectTables) {
  GuestBuffer table = ram_.Allocate(4 * sizeof(Descriptor));
  Describe(0, table.guest_address, 32, Descriptor::kIndirect, 0);
  EXPECT_EQ(Read(0), ChainError::kBadIndirect) << "not negotiated";
  Make({.size = 8, .indirect = true});
  table = ram_.Allocate(4 * sizeof(Descriptor));
  auto* entries = reinterpret_cast<Descriptor*>(table.bytes.data());
  Describe(0, table.guest_address, 0, Descriptor::kIndirect, 0);
  EXPECT_EQ(Read(0), ChainError::kBadIndirect);
  Describe(0, table.guest_address, 17, Descriptor::kIndirect, 0);
  EXPECT_EQ(Read(0), ChainError::kBadIndirect);
  Describe(0, table.guest_address, 16, Descriptor::kIndirect | Descriptor::kNext, 1);
  EXPECT_EQ(Read(0), ChainError::kBadIndirect);
  entries[0] = {table.guest_address, 16, Descriptor::kIndirect, 0};
  Describe(0, table.guest_address, 16, Descriptor::kIndirect, 0);
  EXPECT_EQ(Read(0), ChainError::kBadIndirect);
  entries[0] = {kGuestAddress, 16, Descriptor::kNext, 1};
  EXPECT_EQ(Read(0), ChainError::kBadIndex);
  entries[0] = {kGuestAddress, 16, Descriptor::kNext, 0};
  EXPECT_EQ(Read(0), ChainError::kTooLong);
  Describe(0, kGuestAddress + kRamBytes - 8, 16, Descriptor::kIndirect, 0);
  EXPECT_EQ(Read(0), ChainError::kBadAddress);
  Describe(0, kGuestAddress, 0xfffffff0, Descriptor::kIndirect, 0);
  EXPECT_EQ(Read(0), ChainError::kBadAddress);
}

TEST_F(SplitQueueTest, TakesChainsOfMaximumLength) {
  Make({.size = 256, .indirect = false});
  for (uint16_t i = 0; i < 255; ++i) {
    Describe(i, kGuestAddress, 1, Descriptor::kNext, static_cast<uint16_t>(i + 1));
  }
  Describe(Chain::kMaxDescriptors - 1, kGuestAddress, 1, 0, 0);
  EXPECT_EQ(Read(0), ChainError::kNone);
  Describe(Chain::kMaxDescriptors - 1, kGuestAddress, 1, Descriptor::kNext, Chain::kMaxDescriptors);
  EXPECT_EQ(Read(0), ChainError::kTooLong);
}

TEST_F(SplitQueueTest, RefusesMoreHeadsThanTheRingHolds) {
  driver_->ring().available_index() = 8;
  EXPECT_EQ(queue_->AvailableCount(), 8);
  driver_->ring().available_index() = 9;
  EXPECT_EQ(queue_->AvailableCount(), std::nullopt);
  driver_->ring().available_index() = 0xffff;
  EXPECT_EQ(queue_->AvailableCount(), std::nullopt);
}

TEST_F(SplitQueueTest, NotifiesWhenTheEventIndexIsPassed) {
  const DriverBuffer buffer{kGuestAddress, 4, true};
  auto answer_one = [&] {
    queue_->PushUsed(*driver_->Add({&buffer, 1}), 4);
    const bool notify = queue_->PublishUsed();
    driver_->PopUsed();
    return notify;
  };
  for (int i = 0; i < 40; ++i) {
    driver_->EnableInterrupts();
    EXPECT_TRUE(answer_one()) << i;
    driver_->DisableInterrupts();
    EXPECT_FALSE(answer_one()) << i;
  }
}

TEST_F(SplitQueueTest, NotifiesByFlagWithoutEventIndex) {
  Make({.size = 8, .event_index = false});
  const DriverBuffer buffer{kGuestAddress, 4, true};
  queue_->PushUsed(*driver_->Add({&buffer, 1}), 4);
  EXPECT_TRUE(queue_->PublishUsed());
  driver_->DisableInterrupts();
  queue_->PushUsed(*driver_->Add({&buffer, 1}), 4);
  EXPECT_FALSE(queue_->PublishUsed());
}

TEST_F(SplitQueueTest, EnablesAndDisablesNotifications) {
  for (bool event_index : {true, false}) {
    Make({.size = 8, .event_index = event_index});
    const DriverBuffer buffer{kGuestAddress, 4, true};
    queue_->EnableNotifications();
    driver_->Add({&buffer, 1});
    EXPECT_TRUE(driver_->Publish());
    queue_->DisableNotifications();
    driver_->Add({&buffer, 1});
    EXPECT_FALSE(driver_->Publish());
    queue_->TakeHead();
    queue_->TakeHead();
    queue_->EnableNotifications();
    driver_->Add({&buffer, 1});
    EXPECT_TRUE(driver_->Publish());
  }
}

TEST(ChainTest, RemovesHeaderAndStatusWithAnyFraming) {
  GuestRam ram(1 << 16, 0, 0x7000'0000'0000);
  auto mapping = SharedMapping::Map(ram.fd(), 0, 1 << 16);
  ASSERT_TRUE(mapping.ok());
  GuestMemory memory;
  ASSERT_EQ(memory.Add({0, 1 << 16, ram.user_address(), *std::move(mapping)}), 0);
  for (size_t i = 0; i < 64; ++i) *ram.At(i) = static_cast<std::byte>(i);
  Chain chain;
  // Appends readable buffers of 7 and 13 bytes, then writable buffers of 8 bytes and 1 byte.
  EXPECT_EQ(chain.Append(memory, 0, 7, false), ChainError::kNone);
  EXPECT_EQ(chain.Append(memory, 7, 13, false), ChainError::kNone);
  EXPECT_EQ(chain.Append(memory, 32, 8, true), ChainError::kNone);
  EXPECT_EQ(chain.Append(memory, 50, 1, true), ChainError::kNone);
  std::array<std::byte, 16> header;
  ASSERT_TRUE(chain.TakeFront(header.data(), header.size()));
  for (size_t i = 0; i < header.size(); ++i) EXPECT_EQ(header[i], static_cast<std::byte>(i));
  EXPECT_EQ(chain.readable_bytes(), 4u);
  ASSERT_EQ(chain.readable().size(), 1u);
  EXPECT_EQ(*static_cast<std::byte*>(chain.readable()[0].iov_base), std::byte{16});
  EXPECT_FALSE(chain.TakeFront(header.data(), 5));
  uint8_t* last = chain.TakeLastByte();
  ASSERT_NE(last, nullptr);
  EXPECT_EQ(*last, 50);
  EXPECT_EQ(chain.writable_bytes(), 8u);
  EXPECT_EQ(chain.writable().size(), 1u);
  EXPECT_EQ(*chain.TakeLastByte(), 39);
  EXPECT_EQ(chain.writable()[0].iov_len, 7u);
}

TEST(ChainTest, HasNoStatusWithoutWritableMemory) {
  Chain chain;
  EXPECT_EQ(chain.TakeLastByte(), nullptr);
}

}  // namespace
}  // namespace sma::storage_target::virtio
