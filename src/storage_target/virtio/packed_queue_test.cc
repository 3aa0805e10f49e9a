// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/packed_queue.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "harness/vhost_user/guest_ram.h"
#include "harness/vhost_user/packed_driver.h"
#include "storage_target/virtio/guest_memory.h"
#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::virtio {
namespace {

using harness::DriverBuffer;
using harness::GuestBuffer;
using harness::GuestRam;
using harness::PackedDriver;
using harness::RingOptions;

class PackedQueueTest : public testing::Test {
 protected:
  static constexpr uint64_t kGuestAddress = 0x10000;
  static constexpr size_t kRamBytes = 1 << 20;
  static constexpr uint16_t kNext = PackedDescriptor::kNext;
  static constexpr uint16_t kWrite = PackedDescriptor::kWrite;
  static constexpr uint16_t kIndirect = PackedDescriptor::kIndirect;

  void Make(const RingOptions& options) {
    ram_.FreeAll();
    driver_ = std::make_unique<PackedDriver>(ram_, options);
    queue_ = std::make_unique<PackedQueue>(PackedQueue::Options{.ring = driver_->ring(),
                                                                .next_available = {},
                                                                .next_used = {},
                                                                .event_index = options.event_index,
                                                                .indirect = options.indirect});
  }
  void SetUp() override {
    auto mapping = SharedMapping::Map(ram_.fd(), 0, kRamBytes);
    ASSERT_TRUE(mapping.ok());
    ASSERT_EQ(memory_.Add({kGuestAddress, kRamBytes, ram_.user_address(), *std::move(mapping)}), 0);
    Make({.size = 8});
  }

  // Writes a descriptor that no correct driver would write, available on the first lap.
  void Describe(uint16_t index, uint64_t address, uint32_t size, uint16_t flags, uint16_t id = 0) {
    driver_->ring().descriptors[index] = {
        address, size, id, static_cast<uint16_t>(flags | PackedDescriptor::kAvailable)};
  }
  // Takes and reads the first chain; returns the error.
  ChainError Take() {
    Restart();
    EXPECT_TRUE(queue_->HasAvailable());
    uint16_t id = 0;
    const ChainError error = queue_->TakeChain(id);
    return error == ChainError::kNone ? queue_->ReadChain(memory_, chain_) : error;
  }
  void Restart() {
    queue_ = std::make_unique<PackedQueue>(PackedQueue::Options{
        .ring = driver_->ring(), .next_available = {}, .next_used = {}, .indirect = indirect_});
  }
  // Takes `count` chains and returns their IDs.
  std::vector<uint16_t> TakeAll(size_t count) {
    std::vector<uint16_t> ids(count);
    for (uint16_t& id : ids) {
      EXPECT_TRUE(queue_->HasAvailable());
      EXPECT_EQ(queue_->TakeChain(id), ChainError::kNone);
    }
    EXPECT_FALSE(queue_->HasAvailable());
    return ids;
  }

  GuestRam ram_{kRamBytes, kGuestAddress, 0x7000'0000'0000};
  GuestMemory memory_;
  std::unique_ptr<PackedDriver> driver_;
  std::unique_ptr<PackedQueue> queue_;
  bool indirect_ = false;
  Chain chain_;
};

// The ring size is a multiple of neither the number of laps nor the chain lengths, so that each
// chain wraps at a different position.
TEST_F(PackedQueueTest, TakesChainsOverManyLaps) {
  Make({.size = 7});
  GuestBuffer out = ram_.Allocate(100), in = ram_.Allocate(200);
  const DriverBuffer buffers[] = {{out.guest_address, 100, false}, {in.guest_address, 200, true}};
  for (int round = 0; round < 50; ++round) {
    EXPECT_FALSE(queue_->HasAvailable());
    std::optional<uint16_t> added = driver_->Add(buffers);
    ASSERT_TRUE(added);
    EXPECT_FALSE(queue_->HasAvailable());
    driver_->Publish();
    const uint16_t id = TakeAll(1).front();
    EXPECT_EQ(id, *added);
    ASSERT_EQ(queue_->ReadChain(memory_, chain_), ChainError::kNone);
    EXPECT_EQ(chain_.readable_bytes(), 100u);
    EXPECT_EQ(chain_.writable_bytes(), 200u);
    queue_->PushUsed(id, 77);
    EXPECT_FALSE(driver_->PopUsed());
    queue_->PublishUsed();
    auto used = driver_->PopUsed();
    ASSERT_TRUE(used);
    EXPECT_EQ(used->head, id);
    EXPECT_EQ(used->written_bytes, 77u);
    EXPECT_EQ(queue_->next_used(), driver_->next_used());
    EXPECT_EQ(queue_->next_available(), driver_->next_available());
  }
}

// Chains of one, two and three descriptors are completed out of order and published together.
TEST_F(PackedQueueTest, PublishesOutOfOrderCompletionsAtOnce) {
  Make({.size = 8});
  const DriverBuffer buffers[] = {
      {kGuestAddress, 1, true}, {kGuestAddress, 2, true}, {kGuestAddress, 3, true}};
  for (int round = 0; round < 30; ++round) {
    std::vector<uint16_t> added;
    for (size_t i = 1; i <= 3; ++i) added.push_back(*driver_->Add(std::span(buffers).first(i)));
    driver_->Publish();
    EXPECT_EQ(TakeAll(3), added);
    for (size_t i : {2, 0, 1}) {
      queue_->PushUsed(added[i], static_cast<uint32_t>(i));
      EXPECT_FALSE(driver_->PopUsed());
    }
    queue_->PublishUsed();
    for (size_t i : {2, 0, 1}) {
      auto used = driver_->PopUsed();
      ASSERT_TRUE(used);
      EXPECT_EQ(used->head, added[i]);
      EXPECT_EQ(used->written_bytes, i);
    }
    EXPECT_FALSE(driver_->PopUsed());
    EXPECT_FALSE(queue_->PublishUsed()) << "nothing more";
  }
}

TEST_F(PackedQueueTest, TakesAndCompletesAFullRing) {
  const DriverBuffer buffer{kGuestAddress, 1, true};
  for (int lap = 0; lap < 5; ++lap) {
    for (int i = 0; i < 8; ++i) ASSERT_TRUE(driver_->Add({&buffer, 1}));
    EXPECT_FALSE(driver_->Add({&buffer, 1}));
    driver_->Publish();
    for (uint16_t id : TakeAll(8)) queue_->PushUsed(id, 1);
    queue_->PublishUsed();
    for (int i = 0; i < 8; ++i) ASSERT_TRUE(driver_->PopUsed());
    EXPECT_FALSE(driver_->PopUsed());
  }
}

TEST_F(PackedQueueTest, ReadsIndirectTables) {
  Make({.size = 8, .indirect = true});
  GuestBuffer data = ram_.Allocate(4096 * 20);
  std::vector<DriverBuffer> buffers;
  for (uint64_t i = 0; i < 20; ++i) {
    buffers.push_back({data.guest_address + i * 4096, 4096, i >= 10});
  }
  ASSERT_TRUE(driver_->Add(buffers));
  driver_->Publish();
  TakeAll(1);
  ASSERT_EQ(queue_->ReadChain(memory_, chain_), ChainError::kNone);
  EXPECT_EQ(chain_.readable_bytes(), 10u * 4096);
  EXPECT_EQ(chain_.writable().size(), 10u);
}

TEST_F(PackedQueueTest, TheLastDescriptorHasTheBufferId) {
  Describe(0, kGuestAddress, 1, kNext, 5);
  Describe(1, kGuestAddress, 1, kNext, 0xffff);
  Describe(2, kGuestAddress, 1, 0, 3);
  Restart();
  EXPECT_EQ(TakeAll(1).front(), 3);
  EXPECT_EQ(queue_->taken().size(), 3u);
}

TEST_F(PackedQueueTest, RefusesBufferIdsOutOfRange) {
  Describe(0, kGuestAddress, 1, 0, 8);
  EXPECT_EQ(Take(), ChainError::kBadHead);
  Describe(0, kGuestAddress, 1, 0, 0xffff);
  EXPECT_EQ(Take(), ChainError::kBadHead);
  Describe(0, kGuestAddress, 1, 0, 7);
  EXPECT_EQ(Take(), ChainError::kNone);
}

TEST_F(PackedQueueTest, RefusesABufferIdInUse) {
  Describe(0, kGuestAddress, 1, 0, 4);
  Describe(1, kGuestAddress, 1, 0, 4);
  Restart();
  uint16_t id = 0;
  ASSERT_EQ(queue_->TakeChain(id), ChainError::kNone);
  EXPECT_EQ(queue_->TakeChain(id), ChainError::kHeadInUse);
  queue_->PushUsed(4, 1);
  queue_->PublishUsed();
  EXPECT_EQ(queue_->next_used(), (PackedPosition{.index = 1, .wrap = true}));
}

// The flags are for the third lap: the driver continues before it has seen completions.
TEST_F(PackedQueueTest, RefusesMoreChainsThanTheRingHolds) {
  for (uint16_t i = 0; i < 8; ++i) Describe(i, kGuestAddress, 1, 0, static_cast<uint16_t>(7 - i));
  Restart();
  for (uint16_t i = 0, id = 0; i < 8; ++i) ASSERT_EQ(queue_->TakeChain(id), ChainError::kNone);
  driver_->ring().descriptors[0].flags = AvailableState(false);
  ASSERT_TRUE(queue_->HasAvailable());
  uint16_t id = 0;
  EXPECT_EQ(queue_->TakeChain(id), ChainError::kTooManyAvailable);
}

TEST_F(PackedQueueTest, RefusesEndlessChains) {
  for (uint16_t i = 0; i < 8; ++i) Describe(i, kGuestAddress, 1, kNext);
  EXPECT_EQ(Take(), ChainError::kTooManyAvailable);
  driver_->ring().descriptors[5].flags = kNext;
  EXPECT_EQ(Take(), ChainError::kIncomplete);
  Make({.size = 256});
  for (uint16_t i = 0; i < 256; ++i) Describe(i, kGuestAddress, 1, kNext);
  EXPECT_EQ(Take(), ChainError::kTooLong);
  Describe(Chain::kMaxDescriptors - 1, kGuestAddress, 1, 0);
  EXPECT_EQ(Take(), ChainError::kNone);
}

TEST_F(PackedQueueTest, RefusesAddressesOutsideGuestMemory) {
  for (auto [address, size] : {std::pair<uint64_t, uint32_t>{0, 4},
                               {kGuestAddress + kRamBytes - 2, 4},
                               {UINT64_MAX - 1, 4},
                               {kGuestAddress, 0xffffffff}}) {
    Describe(0, address, size, 0);
    EXPECT_EQ(Take(), ChainError::kBadAddress) << address;
  }
}

TEST_F(PackedQueueTest, RefusesReadableAfterWritable) {
  Describe(0, kGuestAddress, 4, kWrite | kNext);
  Describe(1, kGuestAddress, 4, 0);
  EXPECT_EQ(Take(), ChainError::kBadOrder);
}

TEST_F(PackedQueueTest, RefusesBadIndirectTables) {
  GuestBuffer table = ram_.Allocate(4 * sizeof(PackedDescriptor));
  auto* entries = reinterpret_cast<PackedDescriptor*>(table.bytes.data());
  entries[0] = {kGuestAddress, 16, 0, 0};
  Describe(0, table.guest_address, 32, kIndirect);
  EXPECT_EQ(Take(), ChainError::kBadIndirect) << "not negotiated";
  indirect_ = true;
  EXPECT_EQ(Take(), ChainError::kNone);
  for (uint32_t size : {0, 17}) {
    Describe(0, table.guest_address, size, kIndirect);
    EXPECT_EQ(Take(), ChainError::kBadIndirect);
  }
  Describe(0, table.guest_address, 16, kIndirect | kNext);
  Describe(1, table.guest_address, 16, 0);
  EXPECT_EQ(Take(), ChainError::kBadIndirect);
  Describe(0, kGuestAddress, 129 * 16, kIndirect);
  EXPECT_EQ(Take(), ChainError::kTooLong);
  Describe(0, kGuestAddress + kRamBytes - 8, 16, kIndirect);
  EXPECT_EQ(Take(), ChainError::kBadAddress);
  Describe(0, kGuestAddress, 0xfffffff0, kIndirect);
  EXPECT_EQ(Take(), ChainError::kBadAddress);
  Describe(0, table.guest_address, 16, kIndirect);
  entries[0].flags = kIndirect;
  EXPECT_EQ(Take(), ChainError::kBadIndirect) << "nested";
  // The descriptors of an indirect table are not linked.
  entries[0] = {kGuestAddress, 16, 99, kNext};
  EXPECT_EQ(Take(), ChainError::kNone);
}

TEST_F(PackedQueueTest, NotifiesTheDriverOnRequest) {
  for (bool event_index : {true, false}) {
    Make({.size = 5, .event_index = event_index});
    const DriverBuffer buffer{kGuestAddress, 4, true};
    auto answer_one = [&] {
      driver_->Add({&buffer, 1});
      driver_->Publish();
      queue_->PushUsed(TakeAll(1).front(), 4);
      const bool notify = queue_->PublishUsed();
      driver_->PopUsed();
      return notify;
    };
    for (int i = 0; i < 40; ++i) {
      driver_->EnableInterrupts();
      EXPECT_TRUE(answer_one()) << i;
      if (event_index) {
        EXPECT_FALSE(answer_one()) << "no notification was requested";
      }
      driver_->DisableInterrupts();
      EXPECT_FALSE(answer_one()) << i;
    }
  }
}

TEST_F(PackedQueueTest, EnablesAndDisablesNotifications) {
  for (bool event_index : {true, false}) {
    Make({.size = 5, .event_index = event_index});
    const DriverBuffer buffer{kGuestAddress, 4, true};
    auto add_one = [&] {
      driver_->Add({&buffer, 1});
      const bool notify = driver_->Publish();
      queue_->PushUsed(TakeAll(1).front(), 4);
      queue_->PublishUsed();
      driver_->PopUsed();
      return notify;
    };
    for (int i = 0; i < 20; ++i) {
      queue_->EnableNotifications();
      EXPECT_TRUE(add_one());
      if (event_index) {
        EXPECT_FALSE(add_one()) << "no notification was requested";
      }
      queue_->DisableNotifications();
      EXPECT_FALSE(add_one());
    }
  }
}

// Checks every position and batch size against counting one by one.
TEST(PackedEventTest, RequestsANotificationWhenItsPositionIsPassed) {
  constexpr uint16_t kLap = 6;
  for (uint16_t start = 0; start < 2 * kLap; ++start) {
    for (uint16_t count = 1; count <= kLap; ++count) {
      const PackedPosition first = PackedPosition{}.Plus(kLap, kLap).Plus(start % kLap, kLap);
      const PackedPosition from = start < kLap ? first : first.Plus(kLap, kLap);
      const PackedPosition now = from.Plus(count, kLap);
      for (uint16_t offset = 0; offset < kLap; ++offset) {
        const PackedEvent event{.position = from.Plus(offset, kLap),
                                .flags = PackedEvent::kDescriptor};
        EXPECT_EQ(event.WantsNotification(now, count, kLap), offset < count)
            << start << " " << count << " " << offset;
        EXPECT_EQ(PackedEvent::FromWord(event.word()).position, event.position);
      }
    }
  }
}

TEST_F(PackedQueueTest, ContinuesRequestsOfAPredecessor) {
  const DriverBuffer buffers[] = {
      {kGuestAddress, 1, true}, {kGuestAddress, 2, true}, {kGuestAddress, 3, true}};
  const uint16_t a = *driver_->Add(std::span(buffers).first(1));
  const uint16_t b = *driver_->Add(std::span(buffers).first(3));
  const uint16_t c = *driver_->Add(std::span(buffers).first(2));
  driver_->Publish();
  std::vector<std::vector<PackedDescriptor>> taken;
  for (int i = 0; i < 3; ++i) {
    uint16_t id = 0;
    ASSERT_EQ(queue_->TakeChain(id), ChainError::kNone);
    taken.emplace_back(queue_->taken().begin(), queue_->taken().end());
  }
  // The previous process had three completions ready and ended before it published them.
  for (uint16_t id : {a, b, c}) queue_->PushUsed(id, 9);
  Restart();
  const uint16_t ids[] = {a, b, c};
  queue_->BeginAt({});
  for (size_t i = 0; i < 3; ++i) queue_->Restore(ids[i], taken[i]);
  EXPECT_EQ(queue_->next_available(), driver_->next_available());
  queue_->Retake(taken[1]);
  ASSERT_EQ(queue_->ReadChain(memory_, chain_), ChainError::kNone);
  EXPECT_EQ(chain_.writable_bytes(), 6u);
  EXPECT_FALSE(driver_->PopUsed());
  // The driver sees nothing at the position of the previous process's second completion.
  queue_->PushUsed(a, 7);
  queue_->PublishUsed();
  EXPECT_EQ(driver_->PopUsed()->head, a);
  EXPECT_FALSE(driver_->PopUsed());
  queue_->PushUsed(c, 7);
  queue_->PushUsed(b, 7);
  queue_->PublishUsed();
  EXPECT_EQ(driver_->PopUsed()->head, c);
  EXPECT_EQ(driver_->PopUsed()->head, b);
  EXPECT_EQ(queue_->next_used(), driver_->next_used());
}

}  // namespace
}  // namespace sma::storage_target::virtio
