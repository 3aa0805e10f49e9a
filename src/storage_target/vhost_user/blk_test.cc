// SPDX-License-Identifier: Apache-2.0

// Sends a driver's requests through the socket and the rings to a bdev and checks their completion.

#include <gtest/gtest.h>
#include <linux/virtio_blk.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "harness/vhost_user/blk_driver.h"
#include "harness/vhost_user/front_end.h"
#include "harness/vhost_user/guest_ram.h"
#include "storage_target/vhost_user/testing/test_target.h"

namespace sma::storage_target::vhost_user {
namespace {

using harness::BlkDriver;
using harness::FrontEnd;
using harness::GuestRam;
using harness::RingOptions;

std::vector<std::byte> Pattern(size_t size_bytes, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(size_bytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

class BlkTest : public testing::Test {
 protected:
  static constexpr size_t kRamBytes = 256 << 20;

  void Connect(const ControllerTable::Params& params, uint64_t without_features = 0) {
    ASSERT_EQ(target_.Create(params), 0);
    ASSERT_TRUE(front_end_.Connect(target_.SocketPath(params.name)));
    ASSERT_TRUE(front_end_.Negotiate(without_features));
    GuestRam* rams[] = {&ram_};
    ASSERT_TRUE(front_end_.SetMemTable(rams));
  }

  void CompleteMany(bool packed);

  TestTarget target_;
  GuestRam ram_{kRamBytes, 0x1'0000'0000, 0x7abc'0000'0000};
  FrontEnd front_end_;
};

TEST_F(BlkTest, WritesAndReadsInEveryRingVariant) {
  target_.AddDisk("disk");
  for (bool packed : {false, true}) {
    Connect({.name = packed ? "p" : "s", .bdev_name = "disk", .packed_ring = packed});
    EXPECT_EQ(front_end_.Has(virtio::kRingPacked), packed);
    uint16_t index = 0;
    for (bool indirect : {false, true}) {
      for (uint16_t size : {16, 128, 1024}) {
        BlkDriver driver(ram_, {.size = size, .indirect = indirect, .packed = packed});
        ASSERT_TRUE(driver.Start(front_end_, index++));
        for (uint32_t i = 0; i < 40; ++i) {
          const std::vector<std::byte> data = Pattern(512 * (1 + i % 13), index * 1000 + i);
          std::vector<std::byte> read(data.size());
          const uint64_t sector = index * 10'000 + i * 100;
          ASSERT_EQ(driver.Write(sector, data), VIRTIO_BLK_S_OK);
          ASSERT_EQ(driver.Read(sector, read), VIRTIO_BLK_S_OK);
          ASSERT_EQ(read, data);
        }
      }
    }
  }
}

TEST_F(BlkTest, WorksWithoutEventIndex) {
  target_.AddDisk("disk");
  for (bool packed : {false, true}) {
    Connect({.name = packed ? "p" : "s", .bdev_name = "disk", .packed_ring = packed},
            Bit(virtio::kRingEventIndex));
    BlkDriver driver(ram_, {.size = 8, .event_index = false, .packed = packed});
    ASSERT_TRUE(driver.Start(front_end_, 0));
    for (uint32_t i = 0; i < 100; ++i) {
      const std::vector<std::byte> data = Pattern(4096, i);
      std::vector<std::byte> read(data.size());
      ASSERT_EQ(driver.Write(i * 8, data), VIRTIO_BLK_S_OK);
      ASSERT_EQ(driver.Read(i * 8, read), VIRTIO_BLK_S_OK);
      ASSERT_EQ(read, data);
    }
  }
}

TEST_F(BlkTest, ADriverNeedNotUsePackedVirtqueues) {
  target_.AddDisk("disk");
  Connect({.name = "c", .bdev_name = "disk", .packed_ring = true}, Bit(virtio::kRingPacked));
  BlkDriver driver(ram_, {});
  ASSERT_TRUE(driver.Start(front_end_, 0));
  std::vector<std::byte> data(512);
  EXPECT_EQ(driver.Read(0, data), VIRTIO_BLK_S_OK);
}

void BlkTest::CompleteMany(bool packed) {
  target_.AddDisk("disk");
  Connect({.name = "c", .bdev_name = "disk", .packed_ring = packed});
  std::vector<std::unique_ptr<BlkDriver>> drivers;
  for (uint16_t i = 0; i < 4; ++i) {
    drivers.push_back(
        std::make_unique<BlkDriver>(ram_, RingOptions{.indirect = true, .packed = packed}));
    ASSERT_TRUE(drivers.back()->Start(front_end_, i));
  }
  const std::vector<std::byte> data = Pattern(4096 * 4 * 100, 1);
  auto piece = [&](size_t i) { return std::span(data).subspan(i * 4096, 4096); };
  std::vector<uint16_t> heads;
  for (size_t i = 0; i < 400; ++i) {
    auto head =
        drivers[i % 4]->Submit({.type = VIRTIO_BLK_T_OUT, .sector = i * 8, .out = piece(i)});
    ASSERT_TRUE(head);
    heads.push_back(*head);
  }
  for (size_t i = 0; i < 400; ++i) {
    auto answer = drivers[i % 4]->Wait(heads[i]);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, VIRTIO_BLK_S_OK);
    EXPECT_EQ(answer->written_bytes, 1u);
  }
  for (size_t i = 0; i < 400; ++i) {
    std::vector<std::byte> read(4096);
    // Reads through another queue of the same reactor: ThreadSanitizer cannot see the ordering
    // between reactors here, because it happens in memory that the driver has mapped at another
    // address.
    ASSERT_EQ(drivers[(i + 2) % 4]->Read(i * 8, read), VIRTIO_BLK_S_OK);
    ASSERT_TRUE(std::ranges::equal(read, piece(i)));
  }
}

TEST_F(BlkTest, CompletesManyRequestsOfManyQueues) { CompleteMany(false); }

TEST_F(BlkTest, CompletesManyRequestsOfManyPackedQueues) { CompleteMany(true); }

TEST_F(BlkTest, ZeroesDiscardsAndFlushes) {
  target_.AddDisk("disk");
  Connect({.name = "c", .bdev_name = "disk"});
  BlkDriver driver(ram_, {});
  ASSERT_TRUE(driver.Start(front_end_, 0));
  const std::vector<std::byte> data = Pattern(8192, 1);
  std::vector<std::byte> read(8192);
  ASSERT_EQ(driver.Write(0, data), VIRTIO_BLK_S_OK);
  EXPECT_EQ(driver.Zero(VIRTIO_BLK_T_WRITE_ZEROES, 0, 8), VIRTIO_BLK_S_OK);
  EXPECT_EQ(driver.Flush(), VIRTIO_BLK_S_OK);
  ASSERT_EQ(driver.Read(0, read), VIRTIO_BLK_S_OK);
  EXPECT_EQ(std::ranges::count(std::span(read).first(4096), std::byte{0}), 4096);
  EXPECT_TRUE(std::equal(read.begin() + 4096, read.end(), data.begin() + 4096));
  EXPECT_EQ(driver.Zero(VIRTIO_BLK_T_DISCARD, 8, 8), VIRTIO_BLK_S_OK);
  EXPECT_EQ(driver.Zero(VIRTIO_BLK_T_DISCARD, 8, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
            VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(driver.Zero(VIRTIO_BLK_T_WRITE_ZEROES, 8, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
            VIRTIO_BLK_S_OK);
  EXPECT_EQ(driver.Zero(VIRTIO_BLK_T_WRITE_ZEROES, 8, 0xffffffff), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(driver.Zero(VIRTIO_BLK_T_DISCARD, UINT64_MAX, 8), VIRTIO_BLK_S_IOERR);
}

TEST_F(BlkTest, ReportsItsId) {
  const auto uuid = *base::Uuid::Parse("0123abcd-4567-89ab-cdef-0123456789ab");
  target_.AddDisk("disk", 512, uuid);
  Connect({.name = "c", .bdev_name = "disk"});
  BlkDriver driver(ram_, {});
  ASSERT_TRUE(driver.Start(front_end_, 0));
  auto answer = driver.Do({.type = VIRTIO_BLK_T_GET_ID, .in_bytes = VIRTIO_BLK_ID_BYTES});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, VIRTIO_BLK_S_OK);
  EXPECT_EQ(answer->written_bytes, VIRTIO_BLK_ID_BYTES + 1u);
  EXPECT_EQ(std::memcmp(answer->in.data(), "0123abcd-4567-89ab-c", VIRTIO_BLK_ID_BYTES), 0);
  answer = driver.Do({.type = VIRTIO_BLK_T_GET_ID, .in_bytes = 4});
  ASSERT_TRUE(answer);
  EXPECT_EQ(std::memcmp(answer->in.data(), "0123", 4), 0);
}

TEST_F(BlkTest, RefusesInvalidRequests) {
  target_.AddDisk("disk", 4096);
  Connect({.name = "c", .bdev_name = "disk"});
  BlkDriver driver(ram_, {});
  ASSERT_TRUE(driver.Start(front_end_, 0));
  const uint64_t sectors = TestTarget::kDiskBytes / 512;
  std::vector<std::byte> data(4096);
  EXPECT_EQ(driver.Read(1, data), VIRTIO_BLK_S_IOERR) << "not at a block";
  EXPECT_EQ(driver.Read(0, std::span(data).first(512)), VIRTIO_BLK_S_IOERR) << "not a whole block";
  EXPECT_EQ(driver.Write(0, std::span(data).first(100)), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(driver.Write(0, {}), VIRTIO_BLK_S_IOERR) << "nothing";
  EXPECT_EQ(driver.Read(sectors, data), VIRTIO_BLK_S_IOERR) << "beyond the end";
  EXPECT_EQ(driver.Read(UINT64_MAX - 7, data), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(driver.Read(sectors - 8, data), VIRTIO_BLK_S_OK);
  auto answer = driver.Do({.type = 99, .in_bytes = 512});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, VIRTIO_BLK_S_UNSUPP);
  answer = driver.Do({.type = VIRTIO_BLK_T_DISCARD, .out = std::span(data).first(32)});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, VIRTIO_BLK_S_IOERR) << "two segments";
  EXPECT_EQ(driver.Read(0, data), VIRTIO_BLK_S_OK);
}

TEST_F(BlkTest, ReadOnlyDeviceRefusesWrites) {
  target_.AddDisk("disk");
  Connect({.name = "c", .bdev_name = "disk", .read_only = true});
  EXPECT_TRUE(front_end_.Has(VIRTIO_BLK_F_RO));
  BlkDriver driver(ram_, {});
  ASSERT_TRUE(driver.Start(front_end_, 0));
  std::vector<std::byte> data(512);
  EXPECT_EQ(driver.Write(0, data), VIRTIO_BLK_S_IOERR);
  EXPECT_NE(driver.Zero(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1), VIRTIO_BLK_S_OK);
  EXPECT_EQ(driver.Read(0, data), VIRTIO_BLK_S_OK);
}

TEST_F(BlkTest, BuffersMaySpanRegions) {
  target_.AddDisk("disk");
  ASSERT_EQ(target_.Create({.name = "c", .bdev_name = "disk"}), 0);
  ASSERT_TRUE(front_end_.Connect(target_.SocketPath("c")));
  ASSERT_TRUE(front_end_.Negotiate());
  GuestRam low(1 << 20, 0, 0x7000'0000'0000), high(1 << 20, 1 << 20, 0x7100'0000'0000);
  ASSERT_TRUE(front_end_.AddMemReg(low));
  ASSERT_TRUE(front_end_.AddMemReg(high));
  ASSERT_TRUE(front_end_.AddMemReg(ram_));
  BlkDriver driver(ram_, {});
  ASSERT_TRUE(driver.Start(front_end_, 0));
  const std::vector<std::byte> data = Pattern(4096, 5);
  ASSERT_EQ(driver.Write(0, data), VIRTIO_BLK_S_OK);
  // Reads into the last 1536 bytes of one region and the first 2560 bytes of the next.
  harness::GuestBuffer header = ram_.Allocate(16), status = ram_.Allocate(1);
  const harness::DriverBuffer chain[] = {{header.guest_address, 16, false},
                                         {(1 << 20) - 1536, 4096, true},
                                         {status.guest_address, 1, true}};
  ASSERT_TRUE(driver.ring().Add(chain));
  if (driver.ring().Publish()) driver.Kick();
  while (!driver.ring().PopUsed()) std::this_thread::yield();
  EXPECT_EQ(status.bytes[0], std::byte{VIRTIO_BLK_S_OK});
  EXPECT_EQ(std::memcmp(low.At((1 << 20) - 1536), data.data(), 1536), 0);
  EXPECT_EQ(std::memcmp(high.At(1 << 20), data.data() + 1536, 4096 - 1536), 0);
}

TEST_F(BlkTest, RequestsFailUntilARemovedBdevReappears) {
  const base::Uuid uuid = base::Uuid::Random();
  target_.AddDisk("disk", 512, uuid);
  Connect({.name = "c", .bdev_name = "disk"});
  BlkDriver driver(ram_, {}), second(ram_, {});
  ASSERT_TRUE(driver.Start(front_end_, 0));
  ASSERT_TRUE(second.Start(front_end_, 1));
  std::vector<std::byte> data(512);
  EXPECT_EQ(driver.Read(0, data), VIRTIO_BLK_S_OK);
  target_.RemoveDisk("disk");
  EXPECT_EQ(driver.Read(0, data), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(second.Write(8, data), VIRTIO_BLK_S_IOERR);
  target_.AddDisk("other");
  EXPECT_EQ(driver.Read(0, data), VIRTIO_BLK_S_IOERR) << "another disk is not used";
  target_.AddDisk("disk again", 512, uuid);
  // The vrings receive the bdev asynchronously.
  EXPECT_TRUE(WaitUntil([&] { return driver.Read(0, data) == VIRTIO_BLK_S_OK; }));
  EXPECT_TRUE(WaitUntil([&] { return second.Write(8, data) == VIRTIO_BLK_S_OK; }));
}

}  // namespace
}  // namespace sma::storage_target::vhost_user
