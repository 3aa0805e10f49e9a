// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>

#include "base/testing/captured_log.h"
#include "harness/lingering_socket.h"
#include "storage_target/nvmf/vfio_user/testing/function_fixture.h"
#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::nvmf::vfio_user {
namespace {

using harness::GuestBuffer;
using harness::NvmeQueue;
using nvme::IoOpcode;
using nvme::Property;
using nvme::Status;
using VfioCommand = storage_target::vfio_user::Command;
using storage_target::vfio_user::DmaMapRequest;
using storage_target::vfio_user::Header;
using storage_target::vfio_user::IrqSet;
using storage_target::vfio_user::kBar0;
using storage_target::vfio_user::kConfigRegion;

class HostileTest : public FunctionTest {
 protected:
  void StartIo() {
    ASSERT_TRUE(driver.Enable());
    queue.Clear();
    ASSERT_TRUE(driver.Create(queue));
  }
  bool Works() {
    return driver.Run(queue, OverPages(IoOpcode::kRead, 0, page)) == Status::kSuccess;
  }
  bool WaitFailed() { return driver.WaitStatus(nvme::kCstsFatal, nvme::kCstsFatal); }

  /// Expects that a client that sends these bytes first is disconnected and that the next client is
  /// served.
  void ExpectDropped(std::span<const std::byte> bytes) {
    client.Disconnect();
    ASSERT_TRUE(client.Connect(target.socket_path()));
    client.SendBytes(bytes);
    EXPECT_TRUE(client.WaitClosed());
    client.Disconnect();
    Connect();
  }

  NvmeQueue queue{ram, 1, 64, 64};
  GuestBuffer page = ram.Allocate(kPage, kPage);
};

TEST_F(HostileTest, MalformedHeadersEndTheSession) {
  Header header;
  for (uint32_t bytes : {0u, 15u, 1u << 30, UINT32_MAX}) {
    header.message_bytes = bytes;
    ExpectDropped(std::as_bytes(std::span(&header, 1)));
  }
  header.message_bytes = sizeof header;
  header.flags = storage_target::vfio_user::kTypeReply;
  ExpectDropped(std::as_bytes(std::span(&header, 1)));
  header.flags = 0;
  header.command = VfioCommand::kDeviceReset;  // before the version
  ExpectDropped(std::as_bytes(std::span(&header, 1)));
}

TEST_F(HostileTest, UnsupportedVersionsAreRefused) {
  for (const char* text :
       {"{", "[]", "5", R"({"capabilities":[]})", R"({"capabilities":{"max_msg_fds":-1}})",
        R"({"capabilities":{"max_data_xfer_size":"x"}})",
        R"({"capabilities":{"write_multiple":1}})"}) {
    client.Disconnect();
    ASSERT_TRUE(client.Connect(target.socket_path()));
    EXPECT_FALSE(client.Negotiate(text)) << text;
  }
  client.Disconnect();
  Connect();
}

TEST_F(HostileTest, UnknownAndMalformedCommandsAreRefused) {
  EXPECT_EQ(client.Do(static_cast<VfioCommand>(99)), ENOTSUP);
  EXPECT_EQ(client.Do(VfioCommand::kDmaRead), ENOTSUP);
  EXPECT_EQ(client.Do(VfioCommand::kDeviceGetRegionIoFds), ENOTSUP);
  for (VfioCommand command :
       {VfioCommand::kDmaMap, VfioCommand::kDmaUnmap, VfioCommand::kDeviceGetInfo,
        VfioCommand::kDeviceGetRegionInfo, VfioCommand::kDeviceGetIrqInfo,
        VfioCommand::kDeviceSetIrqs, VfioCommand::kRegionRead, VfioCommand::kRegionWrite}) {
    const std::byte few[3]{};
    EXPECT_EQ(client.Do(command), EINVAL);
    EXPECT_EQ(client.Do(command, few), EINVAL);
  }
  EXPECT_EQ(client.Do(VfioCommand::kRegionWriteMulti), ENOTSUP);  // not negotiated
  storage_target::vfio_user::RegionInfo region;
  region.index = 9;
  EXPECT_EQ(client.DoWith(VfioCommand::kDeviceGetRegionInfo, region), EINVAL);
  storage_target::vfio_user::IrqInfo irq;
  irq.index = 5;
  EXPECT_EQ(client.DoWith(VfioCommand::kDeviceGetIrqInfo, irq), EINVAL);
}

// The reactor, which also serves other controllers, must not wait for a descriptor that a client
// has sent.
TEST_F(HostileTest, ClosingADescriptorMayBlock) {
  harness::LingeringSocket socket;
  const int fd = socket.fd();
  target.io().Invoke([&] {
    client.Send(VfioCommand::kDeviceGetInfo, {}, std::span(&fd, 1));
    socket.Leave();
  });
  client.Disconnect();
  Connect();
}

TEST_F(HostileTest, AccessesOutsideRegionsAreRefused) {
  for (const auto& [region, offset, count] :
       std::vector<std::tuple<uint32_t, uint64_t, uint32_t>>{{0, 0x2000, 4},
                                                             {0, 0x1ffe, 4},
                                                             {0, UINT64_MAX, 4},
                                                             {0, 0, 0},
                                                             {0, 0, UINT32_MAX},
                                                             {1, 0, 4},
                                                             {7, 4096, 1},
                                                             {7, 4095, 2},
                                                             {9, 0, 4},
                                                             {UINT32_MAX, 0, 4},
                                                             {0, 2, 4},
                                                             {0, 0, 1}}) {
    EXPECT_FALSE(client.ReadRegion(region, offset, count)) << region << " " << offset;
    const std::vector<std::byte> data(std::min(count, 64u));
    EXPECT_EQ(client.WriteRegion(region, offset, data), EINVAL) << region << " " << offset;
  }
  // Tests a write with more data than its header specifies, and one with less.
  const storage_target::vfio_user::RegionAccess access{0x14, kBar0, 8};
  EXPECT_EQ(client.DoWith(VfioCommand::kRegionWrite, access), EINVAL);
  EXPECT_EQ(driver.Read(Property::kCsts), 0u);
}

TEST_F(HostileTest, InvalidMappingsAreRefused) {
  const int fd = ram.fd();
  DmaMapRequest map;
  map.flags = 3;
  map.size_bytes = 4096;
  map.address = UINT64_MAX - 100;
  EXPECT_EQ(client.DoWith(VfioCommand::kDmaMap, map, std::span(&fd, 1)), EINVAL);
  map.address = ram.guest_address() + 4096;
  EXPECT_EQ(client.DoWith(VfioCommand::kDmaMap, map, std::span(&fd, 1)), EEXIST);
  map.address = ram.guest_address() - 1;
  EXPECT_EQ(client.DoWith(VfioCommand::kDmaMap, map, std::span(&fd, 1)), EEXIST);
  map.address = 1ull << 40;
  map.offset_bytes = ram.size_bytes();
  EXPECT_EQ(client.DoWith(VfioCommand::kDmaMap, map, std::span(&fd, 1)), EINVAL);
  map.offset_bytes = 0;
  map.size_bytes = 0;
  EXPECT_EQ(client.DoWith(VfioCommand::kDmaMap, map, std::span(&fd, 1)), EINVAL);
  map.size_bytes = 4096;
  map.flags = 8;
  EXPECT_EQ(client.DoWith(VfioCommand::kDmaMap, map, std::span(&fd, 1)), EINVAL);
  const int two[] = {fd, fd};
  map.flags = 3;
  EXPECT_EQ(client.DoWith(VfioCommand::kDmaMap, map, two), EINVAL);
  EXPECT_EQ(client.Unmap(ram.guest_address(), 4096), ENOENT);
  EXPECT_EQ(client.Unmap(0, ram.size_bytes()), ENOENT);
}

TEST_F(HostileTest, InvalidInterruptSettingsAreRefused) {
  auto event = MakeEventFd();
  const int fd = event.get();
  const std::span<const int> one(&fd, 1);
  EXPECT_EQ(client.SetEventFds(VFIO_PCI_MSIX_IRQ_INDEX, 128, 1, one), EINVAL);
  EXPECT_EQ(client.SetEventFds(VFIO_PCI_MSIX_IRQ_INDEX, 0, UINT32_MAX, one), EINVAL);
  EXPECT_EQ(client.SetEventFds(VFIO_PCI_MSIX_IRQ_INDEX, UINT32_MAX, 1, one), EINVAL);
  EXPECT_EQ(client.SetEventFds(VFIO_PCI_MSIX_IRQ_INDEX, 0, 2, one), EINVAL);
  EXPECT_EQ(client.SetEventFds(VFIO_PCI_MSI_IRQ_INDEX, 0, 1, one), EINVAL);
  EXPECT_EQ(client.SetEventFds(77, 0, 1, one), EINVAL);
  const int memory = ram.fd();  // not an eventfd
  EXPECT_EQ(client.SetEventFds(VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, std::span(&memory, 1)), EINVAL);
  IrqSet set;
  for (uint32_t flags : {0u, 3u, 1u << 5, 1u | 3u << 4, 1u << 9}) {
    set.flags = flags;
    set.index = VFIO_PCI_MSIX_IRQ_INDEX;
    set.count = 1;
    EXPECT_EQ(client.DoWith(VfioCommand::kDeviceSetIrqs, set), EINVAL) << flags;
  }
  set.flags = VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER;
  EXPECT_EQ(client.DoWith(VfioCommand::kDeviceSetIrqs, set), EINVAL);  // without its data
}

TEST_F(HostileTest, DoorbellsBeyondTheQueueAreFatalUntilReset) {
  for (uint32_t index : {0u, 1u, 2u, 3u}) {
    StartIo();
    client.Post32(kBar0, nvme::kDoorbellOffset + index * 4, 64);
    EXPECT_TRUE(WaitFailed()) << index;
    ASSERT_TRUE(driver.Disable());
  }
  StartIo();
  // Doorbells of queues that do not exist are ignored.
  client.Post32(kBar0, nvme::kDoorbellOffset + 100 * 4, UINT32_MAX);
  EXPECT_TRUE(Works());
}

TEST_F(HostileTest, ShadowDoorbellsBeyondTheQueueAreFatal) {
  ASSERT_TRUE(driver.Enable());
  ASSERT_TRUE(driver.UseShadowDoorbells());
  queue.Clear();
  ASSERT_TRUE(driver.Create(queue));
  // The shadow page was allocated second to last.
  GuestBuffer after = ram.Allocate(kPage, kPage);
  auto* shadow = reinterpret_cast<uint32_t*>(ram.At(after.guest_address - 2 * kPage));
  virtio::StoreRelease(shadow[2], UINT32_MAX);
  client.Post32(kBar0, nvme::kDoorbellOffset + 8, 1);
  EXPECT_TRUE(WaitFailed());
}

TEST_F(HostileTest, UnmapDuringIo) {
  harness::GuestRam data(16 << 20, 0x40000000, 0);
  ASSERT_EQ(client.Map(data), 0);
  StartIo();
  GuestBuffer far = data.Allocate(32 * kPage, kPage);
  std::vector<GuestBuffer> lists;
  for (int i = 0; i < 60; ++i) lists.push_back(ram.Allocate(kPage, kPage));
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 60; ++i) {
      list = lists[static_cast<size_t>(i)];
      queue.Push(OverPages(i % 2 == 0 ? IoOpcode::kRead : IoOpcode::kWrite, 0, far));
    }
    driver.RingTail(queue);
    ASSERT_EQ(client.Unmap(data.guest_address(), data.size_bytes()), 0);
    for (int i = 0; i < 60; ++i) {
      auto completion = driver.Wait(queue);
      ASSERT_TRUE(completion);
      const Status status = nvme::StatusOf(completion->status);
      EXPECT_TRUE(status == Status::kSuccess || status == Status::kDataTransferError);
    }
    ASSERT_EQ(client.Map(data), 0);
  }
}

TEST_F(HostileTest, MemoryTruncatedDuringIo) {
  StartIo();
  {
    base::UniqueFd fd(::memfd_create("short", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(fd.get(), 1 << 20), 0);
    DmaMapRequest map;
    map.flags = 3;
    map.address = 0x50000000;
    map.size_bytes = 1 << 20;
    const int number = fd.get();
    ASSERT_EQ(client.DoWith(VfioCommand::kDmaMap, map, std::span(&number, 1)), 0);
    ASSERT_EQ(::ftruncate(fd.get(), 0), 0);
  }
  nvme::Command command = harness::IoCommand(IoOpcode::kRead, 0, 1);
  command.sgl.address = 0x50000000;
  queue.Push(command);
  driver.RingTail(queue);
  EXPECT_TRUE(WaitFailed());
  EXPECT_EQ(client.Do(VfioCommand::kDeviceReset), 0);
  ASSERT_EQ(client.Unmap(0x50000000, 1 << 20), 0);
  StartIo();
  EXPECT_TRUE(Works());
}

// The client keeps sending and does not read replies.
TEST_F(HostileTest, UnreadRepliesEndTheSession) {
  ::fcntl(client.fd(), F_SETFL, O_NONBLOCK);
  const storage_target::vfio_user::RegionAccess access{0, kConfigRegion, 4096};
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (std::chrono::steady_clock::now() < until) {
    if (client.Send(VfioCommand::kRegionRead, std::as_bytes(std::span(&access, 1)))) continue;
    if (errno == EPIPE || errno == ECONNRESET) break;
  }
  EXPECT_TRUE(client.WaitClosed());
  client.Disconnect();
  Connect();
  StartIo();
  EXPECT_TRUE(Works());
}

TEST_F(HostileTest, CommandsOfRandomBytes) {
  StartIo();
  NvmeQueue admin_like(ram, 2, 64, 64);
  ASSERT_TRUE(driver.Create(admin_like));
  uint32_t state = 12345;
  auto random = [&state] { return state = state * 1664525u + 1013904223u; };
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 50; ++i) {
      nvme::Command command;
      auto* words = reinterpret_cast<uint32_t*>(&command);
      for (size_t word = 0; word < sizeof command / 4; ++word) words[word] = random() >> 3;
      command.opcode = static_cast<uint8_t>(random() >> 16) % 32;
      command.nsid = 1;
      admin_like.Push(command);
    }
    driver.RingTail(admin_like);
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(driver.Wait(admin_like)) << round << " " << i;
  }
  EXPECT_TRUE(Works());
}

TEST(LogTest, AClientThatReconnectsDoesNotFillTheLog) {
  base::CapturedLog log;
  TestTarget target;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 300; ++i) {
    harness::VfioUserClient client;
    ASSERT_TRUE(client.Connect(target.socket_path()));
    ASSERT_TRUE(client.Negotiate());
  }
  const auto elapsed = std::chrono::steady_clock::now() - start;
  EXPECT_GE(log.Count(target.address().address), 50U);
  EXPECT_LE(log.Count(target.address().address), 2 * (101 + elapsed / std::chrono::seconds(1)));
}

}  // namespace
}  // namespace sma::storage_target::nvmf::vfio_user
