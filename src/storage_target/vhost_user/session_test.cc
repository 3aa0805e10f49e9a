// SPDX-License-Identifier: Apache-2.0

// Tests which messages a front end may send in which order, and that all others end the session.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "harness/vhost_user/blk_driver.h"
#include "harness/vhost_user/front_end.h"
#include "harness/vhost_user/guest_ram.h"
#include "storage_target/vhost_user/testing/test_target.h"

namespace sma::storage_target::vhost_user {
namespace {

using harness::BlkDriver;
using harness::FrontEnd;
using harness::GuestRam;

constexpr uint64_t kSessionGuestAddress = 0x1'0000'0000;
constexpr uint64_t kSessionUserAddress = 0x7abc'0000'0000;

template <typename T>
std::span<const std::byte> BytesOf(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

class SessionTest : public testing::Test {
 protected:
  void SetUp() override {
    target_.AddDisk("disk");
    ASSERT_EQ(target_.Create({.name = "c", .bdev_name = "disk"}), 0);
    ASSERT_TRUE(front_end_.Connect(target_.SocketPath("c")));
  }

  void Negotiate() {
    ASSERT_TRUE(front_end_.Negotiate());
    GuestRam* rams[] = {&ram_};
    ASSERT_TRUE(front_end_.SetMemTable(rams));
  }

  // Checks that a new front end is served normally.
  void ExpectServed() {
    GuestRam ram(1 << 20, kSessionGuestAddress, kSessionUserAddress);
    FrontEnd other;
    ASSERT_TRUE(other.Connect(target_.SocketPath("c")));
    ASSERT_TRUE(other.Negotiate());
    GuestRam* rams[] = {&ram};
    ASSERT_TRUE(other.SetMemTable(rams));
    BlkDriver driver(ram, {});
    ASSERT_TRUE(driver.Start(other, 0));
    std::vector<std::byte> data(512);
    EXPECT_EQ(driver.Read(0, data), VIRTIO_BLK_S_OK);
  }

  // Sends a message that must end the session.
  void ExpectEnd(Request request, std::span<const std::byte> payload, std::span<const int> fds = {},
                 uint32_t flags = 0) {
    FrontEnd other;
    ASSERT_TRUE(other.Connect(target_.SocketPath("c")));
    ASSERT_TRUE(other.Send(request, payload, fds, flags));
    EXPECT_TRUE(other.WaitClosed()) << RequestName(request);
  }

  TestTarget target_;
  GuestRam ram_{64 << 20, kSessionGuestAddress, kSessionUserAddress};
  FrontEnd front_end_;
};

TEST_F(SessionTest, OffersItsFeatures) {
  const uint64_t features = *front_end_.AskNumber(Request::kGetFeatures);
  for (unsigned bit : {VIRTIO_F_VERSION_1, int{kFeatureProtocolFeatures}, VIRTIO_BLK_F_MQ,
                       VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_TOPOLOGY,
                       VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES}) {
    EXPECT_TRUE(features >> bit & 1) << bit;
  }
  EXPECT_FALSE(features >> VIRTIO_BLK_F_RO & 1);
  const uint64_t protocol = *front_end_.AskNumber(Request::kGetProtocolFeatures);
  EXPECT_TRUE(protocol & Bit(ProtocolFeature::kInflightShmfd));
  EXPECT_TRUE(protocol & Bit(ProtocolFeature::kConfigureMemSlots));
  EXPECT_EQ(front_end_.AskNumber(Request::kGetQueueNum), Session::kMaxQueues);
  EXPECT_GE(*front_end_.AskNumber(Request::kGetMaxMemSlots), 32u);
}

TEST_F(SessionTest, ReturnsItsConfigurationSpace) {
  ConfigSpace space{};
  space.size_bytes = sizeof(virtio_blk_config);
  auto ask = [&] {
    return front_end_.Ask(Request::kGetConfig,
                          BytesOf(space).first(kConfigHeaderBytes + space.size_bytes));
  };
  auto reply = ask();
  ASSERT_TRUE(reply);
  ASSERT_EQ(reply->payload.size(), kConfigHeaderBytes + sizeof(virtio_blk_config));
  virtio_blk_config config;
  std::memcpy(&config, reply->payload.data() + kConfigHeaderBytes, sizeof config);
  EXPECT_EQ(config.capacity, TestTarget::kDiskBytes / 512);
  EXPECT_EQ(config.blk_size, 512u);
  EXPECT_EQ(config.seg_max, virtio::BlkDevice::kMaxSegments);
  EXPECT_EQ(config.num_queues, Session::kMaxQueues);
  EXPECT_EQ(config.max_discard_seg, 1u);
  EXPECT_GT(config.max_discard_sectors, 0u);
  EXPECT_GT(config.max_write_zeroes_sectors, 0u);
  // Reads a part of the space, and bytes beyond its end.
  space.offset = offsetof(virtio_blk_config, blk_size);
  space.size_bytes = 4;
  reply = ask();
  ASSERT_TRUE(reply);
  uint32_t blk_size = 0;
  std::memcpy(&blk_size, reply->payload.data() + kConfigHeaderBytes, sizeof blk_size);
  EXPECT_EQ(blk_size, 512u);
  space.offset = 250;
  space.size_bytes = 6;
  reply = ask();
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->payload.back(), std::byte{0});
}

TEST_F(SessionTest, RefusesConfigurationWrites) {
  Negotiate();
  ConfigSpace space{};
  space.size_bytes = 1;
  space.offset = offsetof(virtio_blk_config, wce);
  EXPECT_FALSE(front_end_.Do(Request::kSetConfig, BytesOf(space).first(kConfigHeaderBytes + 1)));
  space.flags = 1;  // sent by the destination of a migration
  EXPECT_TRUE(front_end_.Do(Request::kSetConfig, BytesOf(space).first(kConfigHeaderBytes + 1)));
}

TEST_F(SessionTest, ReportsANewSize) {
  Negotiate();
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  base::UniqueFd theirs(pair[1]);
  ASSERT_TRUE(front_end_.Do(Request::kSetBackendReqFd, {}, std::span(&pair[1], 1)));
  FrontEnd requests;
  requests.Adopt(base::UniqueFd(pair[0]));
  target_.Run([](bdev::Registry& registry, ControllerTable&) {
    ASSERT_EQ(registry.Resize(*registry.Find("disk"), 2 * TestTarget::kDiskBytes / 512), 0);
  });
  auto message = requests.Receive();
  ASSERT_TRUE(message);
  EXPECT_EQ(message->header.request, static_cast<uint32_t>(BackendRequest::kConfigChange));
  ConfigSpace space{};
  space.size_bytes = 8;
  auto reply = front_end_.Ask(Request::kGetConfig, BytesOf(space).first(kConfigHeaderBytes + 8));
  ASSERT_TRUE(reply);
  uint64_t capacity = 0;
  std::memcpy(&capacity, reply->payload.data() + kConfigHeaderBytes, sizeof capacity);
  EXPECT_EQ(capacity, 2 * TestTarget::kDiskBytes / 512);
  EXPECT_TRUE(message->payload.empty());
}

TEST_F(SessionTest, BackendRequestsAreSentOnlyToUnixSockets) {
  Negotiate();
  const base::UniqueFd others[] = {base::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
                                   base::UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
                                   base::UniqueFd(::eventfd(0, EFD_CLOEXEC))};
  for (const base::UniqueFd& other : others) {
    ASSERT_TRUE(other);
    const int fd = other.get();
    EXPECT_FALSE(front_end_.Do(Request::kSetBackendReqFd, {}, std::span(&fd, 1)));
  }
  EXPECT_TRUE(front_end_.AskNumber(Request::kGetFeatures));
}

TEST_F(SessionTest, StopsAndContinues) {
  Negotiate();
  BlkDriver driver(ram_, {.size = 16});
  std::vector<std::byte> data(512, std::byte{1});
  uint16_t base = 0;
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(driver.Start(front_end_, 0, base));
    for (int i = 0; i < 21; ++i) ASSERT_EQ(driver.Write(0, data), VIRTIO_BLK_S_OK);
    auto next = front_end_.StopVring(0);
    ASSERT_TRUE(next);
    base = static_cast<uint16_t>(base + 21);
    EXPECT_EQ(*next, base);
  }
}

// A ring of 21 descriptors: a size that is valid only for packed virtqueues.
TEST_F(SessionTest, APackedRingStopsAndContinues) {
  ASSERT_EQ(target_.Create({.name = "packed", .bdev_name = "disk", .packed_ring = true}), 0);
  ASSERT_TRUE(front_end_.Connect(target_.SocketPath("packed")));
  Negotiate();
  BlkDriver driver(ram_, {.size = 21, .packed = true});
  std::vector<std::byte> data(512, std::byte{1});
  std::optional<uint32_t> base = driver.ring().initial_base();
  for (int round = 0; round < 5; ++round) {
    // Some front ends drop the upper half.
    if (round % 2 != 0) *base &= 0xffff;
    ASSERT_TRUE(driver.Start(front_end_, 0, base));
    for (int i = 0; i < 23; ++i) ASSERT_EQ(driver.Write(0, data), VIRTIO_BLK_S_OK);
    base = front_end_.StopVring(0);
    ASSERT_TRUE(base);
    const uint32_t bits = driver.packed().next_available().bits();
    EXPECT_EQ(*base, bits | bits << 16);
  }
}

TEST_F(SessionTest, AnInvalidRingDoesNotRun) {
  Negotiate();
  EXPECT_FALSE(front_end_.DoWith(Request::kSetVringNum, VringState{0, 21}));
  ASSERT_EQ(target_.Create({.name = "packed", .bdev_name = "disk", .packed_ring = true}), 0);
  ASSERT_TRUE(front_end_.Connect(target_.SocketPath("packed")));
  Negotiate();
  for (uint32_t size : {0u, 1025u, 65536u + 16}) {
    EXPECT_FALSE(front_end_.DoWith(Request::kSetVringNum, VringState{0, size})) << size;
  }
  BlkDriver driver(ram_, {.size = 21, .packed = true});
  auto runs = [&](uint32_t base) {
    EXPECT_TRUE(driver.Start(front_end_, 0, base));
    size_t running = 0;
    target_.Run([&](bdev::Registry&, ControllerTable& table) {
      running = table.Find("packed")->sessions().front()->running_vrings();
    });
    return running == 1;
  };
  for (uint32_t base : {0x8015'8015u, 0x8015'8000u, 0x8000'8015u, 0xffff'ffffu}) {
    EXPECT_FALSE(runs(base)) << base;
  }
  EXPECT_TRUE(runs(driver.ring().initial_base()));
  std::vector<std::byte> data(512);
  EXPECT_EQ(driver.Read(0, data), VIRTIO_BLK_S_OK);
}

TEST_F(SessionTest, RequestsWaitWhileAVringIsDisabled) {
  Negotiate();
  BlkDriver driver(ram_, {});
  ASSERT_TRUE(driver.Start(front_end_, 0));
  ASSERT_TRUE(front_end_.DoWith(Request::kSetVringEnable, VringState{0, 0}));
  auto head = driver.Submit({.type = VIRTIO_BLK_T_IN, .in_bytes = 512});
  ASSERT_TRUE(head);
  // This reply is sent after all earlier messages were handled.
  ASSERT_TRUE(front_end_.AskNumber(Request::kGetFeatures));
  EXPECT_FALSE(driver.ring().PopUsed());
  ASSERT_TRUE(front_end_.DoWith(Request::kSetVringEnable, VringState{0, 1}));
  EXPECT_TRUE(driver.Wait(*head));
}

TEST_F(SessionTest, VringsAreEnabledFromTheStartWithoutProtocolFeatures) {
  // Like a front end that predates protocol features: the bit is not acknowledged.
  const uint64_t features =
      *front_end_.AskNumber(Request::kGetFeatures) & ~Bit(kFeatureProtocolFeatures);
  BlkDriver driver(ram_, {});
  ASSERT_TRUE(front_end_.Send(Request::kSetOwner, {}));
  ASSERT_TRUE(front_end_.Send(Request::kSetFeatures, BytesOf(features)));
  MemoryTable table{};
  table.region_count = 1;
  table.regions[0] = harness::Describe(ram_);
  const int fd = ram_.fd(), kick = driver.kick_fd(), call = driver.call_fd();
  const uint64_t index = 0;
  ASSERT_TRUE(front_end_.Send(Request::kSetMemTable, BytesOf(table).first(40), {&fd, 1}));
  ASSERT_TRUE(front_end_.Send(Request::kSetVringNum, BytesOf(VringState{0, 128})));
  ASSERT_TRUE(front_end_.Send(Request::kSetVringBase, BytesOf(VringState{0, 0})));
  ASSERT_TRUE(
      front_end_.Send(Request::kSetVringAddr,
                      BytesOf(VringAddr{0, 0, ram_.ToUser(driver.ring().descriptors_address()),
                                        ram_.ToUser(driver.ring().used_address()),
                                        ram_.ToUser(driver.ring().available_address()), 0})));
  ASSERT_TRUE(front_end_.Send(Request::kSetVringCall, BytesOf(index), {&call, 1}));
  ASSERT_TRUE(front_end_.Send(Request::kSetVringKick, BytesOf(index), {&kick, 1}));
  std::vector<std::byte> data(512);
  EXPECT_EQ(driver.Read(0, data), VIRTIO_BLK_S_OK);
}

TEST_F(SessionTest, MemoryIsAddedAndRemovedDuringIo) {
  Negotiate();
  BlkDriver driver(ram_, {});
  ASSERT_TRUE(driver.Start(front_end_, 0));
  std::vector<std::byte> data(512, std::byte{3});
  for (int i = 0; i < 10; ++i) {
    GuestRam more(1 << 20, 0x10'0000'0000, 0x7bbb'0000'0000);
    std::vector<uint16_t> heads;
    for (int j = 0; j < 20; ++j) {
      heads.push_back(*driver.Submit({.type = VIRTIO_BLK_T_OUT, .out = data}));
    }
    ASSERT_TRUE(front_end_.AddMemReg(more));
    ASSERT_FALSE(front_end_.AddMemReg(more)) << "the same region twice";
    BlkDriver hot(more, {});
    ASSERT_TRUE(hot.Start(front_end_, 1));
    EXPECT_EQ(hot.Write(8, data), VIRTIO_BLK_S_OK);
    ASSERT_TRUE(front_end_.StopVring(1));
    ASSERT_TRUE(front_end_.RemMemReg(more));
    ASSERT_FALSE(front_end_.RemMemReg(more));
    for (uint16_t head : heads) EXPECT_EQ(driver.Wait(head)->status, VIRTIO_BLK_S_OK);
  }
}

TEST_F(SessionTest, AVringWithoutItsMemoryDoesNotRun) {
  Negotiate();
  BlkDriver driver(ram_, {});
  ASSERT_TRUE(driver.Start(front_end_, 0));
  ASSERT_TRUE(front_end_.RemMemReg(ram_));
  auto head = driver.Submit({.type = VIRTIO_BLK_T_IN, .in_bytes = 512});
  ASSERT_TRUE(head);
  ASSERT_TRUE(front_end_.AskNumber(Request::kGetFeatures));
  EXPECT_FALSE(driver.ring().PopUsed());
  ASSERT_TRUE(front_end_.AddMemReg(ram_));
  EXPECT_TRUE(driver.Wait(*head));
}

TEST_F(SessionTest, ResetDeviceStartsOver) {
  Negotiate();
  BlkDriver driver(ram_, {});
  ASSERT_TRUE(driver.Start(front_end_, 0));
  std::vector<std::byte> data(512);
  ASSERT_EQ(driver.Read(0, data), VIRTIO_BLK_S_OK);
  ASSERT_TRUE(front_end_.Do(Request::kResetDevice));
  driver.ring().Reset();
  ASSERT_TRUE(driver.Start(front_end_, 0));
  EXPECT_EQ(driver.Read(0, data), VIRTIO_BLK_S_OK);
}

TEST_F(SessionTest, FrontEndsConnectOneAfterAnother) {
  front_end_.Disconnect();
  for (int i = 0; i < 20; ++i) ExpectServed();
  EXPECT_TRUE(target_.WaitForSessions("c", 0));
}

TEST_F(SessionTest, SeveralFrontEndsAtOnce) {
  for (int i = 0; i < 3; ++i) {
    Negotiate();
    ExpectServed();
  }
}

TEST_F(SessionTest, FrontEndsBeyondTheLimitWait) {
  std::vector<FrontEnd> front_ends(Controller::kMaxSessions);
  for (size_t i = 0; i + 1 < front_ends.size(); ++i) {
    ASSERT_TRUE(front_ends[i].Connect(target_.SocketPath("c")));
    ASSERT_TRUE(front_ends[i].AskNumber(Request::kGetFeatures));
  }
  FrontEnd& waiting = front_ends.back();
  ASSERT_TRUE(waiting.Connect(target_.SocketPath("c")));
  ASSERT_TRUE(waiting.Send(Request::kGetFeatures, {}));
  EXPECT_EQ(target_.SessionCount("c"), Controller::kMaxSessions);
  front_ends.front().Disconnect();
  EXPECT_TRUE(waiting.Receive());
}

TEST_F(SessionTest, MalformedMessagesEndTheSession) {
  const uint64_t number = 0;
  const std::vector<std::byte> large(600);
  base::UniqueFd eventfd(::eventfd(0, 0));
  const int fds[] = {eventfd.get(), eventfd.get()};
  ExpectEnd(Request::kGetFeatures, BytesOf(number));
  ExpectEnd(Request::kSetFeatures, {});
  ExpectEnd(Request::kSetFeatures, BytesOf(number), fds);
  ExpectEnd(Request::kSetFeatures, BytesOf(UINT64_MAX));
  ExpectEnd(Request::kSetFeatures, large);
  ExpectEnd(static_cast<Request>(0), {});
  ExpectEnd(static_cast<Request>(6), BytesOf(number));
  ExpectEnd(static_cast<Request>(UINT32_MAX), {});
  ExpectEnd(Request::kGetFeatures, {}, {}, Header::kReply);
  ExpectEnd(Request::kSetVringNum, BytesOf(VringState{Session::kMaxQueues, 128}));
  for (uint32_t size : {0u, 3u, 2048u, 1u << 31, UINT32_MAX}) {
    ExpectEnd(Request::kSetVringNum, BytesOf(VringState{0, size}));
  }
  ExpectEnd(Request::kGetVringBase, BytesOf(VringState{UINT32_MAX, 0}));
  ExpectEnd(Request::kSetVringKick, BytesOf(number));
  ExpectEnd(Request::kSetVringKick, BytesOf(number), fds);
  ExpectEnd(Request::kSetVringKick, BytesOf(kVringNoFd), std::span(fds, 1));
  ExpectEnd(Request::kSetVringCall, BytesOf(uint64_t{200}), std::span(fds, 1));
  ExpectEnd(Request::kSetBackendReqFd, {});
  ExpectEnd(Request::kAddMemReg, BytesOf(SingleMemoryRegion{}));
  ExpectEnd(Request::kAddMemReg, BytesOf(SingleMemoryRegion{}), std::span(fds, 1));
  ExpectEnd(Request::kRemMemReg, BytesOf(SingleMemoryRegion{}));
  ExpectServed();
}

TEST_F(SessionTest, InvalidMemoryTablesEndTheSession) {
  MemoryTable table{};
  table.region_count = 9;
  ExpectEnd(Request::kSetMemTable, BytesOf(table));
  table.region_count = UINT32_MAX;
  ExpectEnd(Request::kSetMemTable, BytesOf(table));
  table.region_count = 1;
  table.regions[0] = harness::Describe(ram_);
  const int fd = ram_.fd();
  ExpectEnd(Request::kSetMemTable, BytesOf(table).first(40));
  ExpectEnd(Request::kSetMemTable, BytesOf(table).first(39), {&fd, 1});
  table.regions[0].size_bytes += 1;
  ExpectEnd(Request::kSetMemTable, BytesOf(table).first(40), {&fd, 1});
  table.regions[0].size_bytes = UINT64_MAX;
  ExpectEnd(Request::kSetMemTable, BytesOf(table).first(40), {&fd, 1});
  table.regions[0] = harness::Describe(ram_);
  table.regions[0].mmap_offset = UINT64_MAX - 4095;
  ExpectEnd(Request::kSetMemTable, BytesOf(table).first(40), {&fd, 1});
  table.region_count = 2;
  table.regions[0] = table.regions[1] = harness::Describe(ram_);
  const int fds[] = {fd, fd};
  ExpectEnd(Request::kSetMemTable, BytesOf(table).first(72), fds);
  ExpectServed();
}

TEST_F(SessionTest, InvalidInflightBuffersEndTheSession) {
  InflightDescription inflight{};
  ExpectEnd(Request::kGetInflightFd, BytesOf(inflight));
  inflight.queue_count = UINT16_MAX;
  inflight.queue_size = UINT16_MAX;
  ExpectEnd(Request::kGetInflightFd, BytesOf(inflight));
  inflight.queue_count = 4;
  inflight.queue_size = 128;
  inflight.mmap_bytes = 100;
  const int fd = ram_.fd();
  ExpectEnd(Request::kSetInflightFd, BytesOf(inflight), {&fd, 1});
  inflight.mmap_bytes = UINT64_MAX;
  inflight.mmap_offset = UINT64_MAX;
  ExpectEnd(Request::kSetInflightFd, BytesOf(inflight), {&fd, 1});
  ExpectServed();
}

TEST_F(SessionTest, AcceptsOnlyEventfds) {
  const uint64_t index = 0;
  int pipes[2];
  ASSERT_EQ(::pipe(pipes), 0);
  const int file = ram_.fd();
  ExpectEnd(Request::kSetVringCall, BytesOf(index), {&pipes[1], 1});
  ExpectEnd(Request::kSetVringKick, BytesOf(index), {&pipes[0], 1});
  ExpectEnd(Request::kSetVringErr, BytesOf(index), {&file, 1});
  ::close(pipes[0]);
  ::close(pipes[1]);
}

TEST_F(SessionTest, TooManyDescriptorsEndTheSession) {
  std::vector<int> fds(20, ram_.fd());
  ExpectEnd(Request::kSetMemTable, BytesOf(MemoryTable{}), fds);
  ExpectServed();
}

TEST_F(SessionTest, MessagesMayArriveInPieces) {
  const Header header{static_cast<uint32_t>(Request::kSetFeatures), Header::kVersion, 8};
  const uint64_t features = 0;
  for (std::span<const std::byte> bytes : {BytesOf(header), BytesOf(features)}) {
    for (const std::byte& byte : bytes) ASSERT_TRUE(front_end_.SendBytes({&byte, 1}));
  }
  EXPECT_TRUE(front_end_.AskNumber(Request::kGetFeatures));
}

TEST_F(SessionTest, AFrontEndMayDisconnectWithinAMessage) {
  const Header header{static_cast<uint32_t>(Request::kSetFeatures), Header::kVersion, 8};
  ASSERT_TRUE(front_end_.SendBytes(BytesOf(header)));
  front_end_.Disconnect();
  EXPECT_TRUE(target_.WaitForSessions("c", 0));
  ExpectServed();
}

}  // namespace
}  // namespace sma::storage_target::vhost_user
