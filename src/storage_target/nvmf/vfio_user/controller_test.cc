// SPDX-License-Identifier: Apache-2.0

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "storage_target/nvmf/vfio_user/testing/function_fixture.h"

namespace sma::storage_target::nvmf::vfio_user {
namespace {

using harness::GuestBuffer;
using harness::NvmeDriver;
using harness::NvmeQueue;
using harness::WaitEvent;
using nvme::AdminOpcode;
using nvme::Command;
using nvme::IoOpcode;
using nvme::Property;
using nvme::Status;
using storage_target::vfio_user::kBar0;
using storage_target::vfio_user::kBar4;
using storage_target::vfio_user::kConfigRegion;
using VfioCommand = storage_target::vfio_user::Command;

class ControllerTest : public FunctionTest {
 protected:
  void StartIo() {
    ASSERT_TRUE(driver.Enable());
    ASSERT_TRUE(driver.Create(queue));
    ASSERT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, 0, page)), Status::kSuccess);
  }

  // Starts an I/O queue whose completions are signalled through the eventfd `event`, with the
  // maximum coalescing that a host can request.
  void StartIoWithCoalescing(int event) {
    ASSERT_EQ(client.SetEventFds(VFIO_PCI_MSIX_IRQ_INDEX, 1, 1, std::span(&event, 1)), 0);
    ASSERT_TRUE(driver.Enable());
    ASSERT_TRUE(driver.Create(queue, 1, true));
    Command feature;
    feature.opcode = static_cast<uint8_t>(AdminOpcode::kSetFeatures);
    feature.cdw10 = static_cast<uint32_t>(nvme::Feature::kInterruptCoalescing);
    feature.cdw11 = 0xff << 8 | 0xff;
    ASSERT_EQ(driver.AdminStatus(feature), Status::kSuccess);
  }

  NvmeQueue queue{ram, 1, 64, 64};
  GuestBuffer page = ram.Allocate(kPage, kPage);
};

TEST_F(ControllerTest, DeviceAndRegionsAreDescribed) {
  auto device =
      client.AskWith(VfioCommand::kDeviceGetInfo, storage_target::vfio_user::DeviceInfo{});
  ASSERT_TRUE(device);
  const auto info = device->As<storage_target::vfio_user::DeviceInfo>();
  EXPECT_EQ(info.flags, VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI);
  EXPECT_EQ(info.region_count, 9u);
  EXPECT_EQ(info.irq_count, 5u);
  for (const auto& [index, size] :
       {std::pair(kBar0, 0x2000u), {1u, 0u}, {kBar4, 0x4000u}, {kConfigRegion, 4096u}}) {
    storage_target::vfio_user::RegionInfo request;
    request.index = index;
    auto reply = client.AskWith(VfioCommand::kDeviceGetRegionInfo, request);
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->As<storage_target::vfio_user::RegionInfo>().size_bytes, size) << index;
  }
}

TEST_F(ControllerTest, ConfigurationSpaceDescribesAnNvmeFunction) {
  EXPECT_EQ(client.Read<uint32_t>(kConfigRegion, PCI_CLASS_REVISION) >> 8, 0x010802u);
  // Writing all ones to a BAR makes it return its size.
  EXPECT_EQ(client.Write<uint64_t>(kConfigRegion, PCI_BASE_ADDRESS_0, UINT64_MAX), 0);
  EXPECT_EQ(client.Read<uint64_t>(kConfigRegion, PCI_BASE_ADDRESS_0), ~uint64_t{0x1fff} | 4);
  std::vector<uint8_t> capabilities;
  for (auto at = client.Read<uint8_t>(kConfigRegion, PCI_CAPABILITY_LIST); at != 0;
       at = client.Read<uint8_t>(kConfigRegion, at + 1)) {
    capabilities.push_back(client.Read<uint8_t>(kConfigRegion, at));
    ASSERT_LE(capabilities.size(), 8u);
  }
  EXPECT_EQ(capabilities, (std::vector<uint8_t>{PCI_CAP_ID_PM, PCI_CAP_ID_MSIX, PCI_CAP_ID_EXP}));
}

TEST_F(ControllerTest, CapabilitiesAndVersion) {
  const auto cap = client.Read<uint64_t>(kBar0, 0);
  EXPECT_EQ(nvme::CapMaxQueueEntries(cap), 256u);
  EXPECT_EQ(nvme::CapMinPageShift(cap), 0u);
  EXPECT_EQ(driver.Read(Property::kVs), nvme::MakeVersion(1, 4));
  EXPECT_EQ(driver.Read(Property::kCsts), 0u);
}

TEST_F(ControllerTest, RepeatedResetsByCc) {
  for (int round = 0; round < 3; ++round) {
    queue.Clear();
    StartIo();
    ASSERT_TRUE(driver.Disable());
  }
}

TEST_F(ControllerTest, ResetByMessageClearsRegisters) {
  StartIo();
  EXPECT_EQ(client.Do(VfioCommand::kDeviceReset), 0);
  EXPECT_EQ(driver.Read(Property::kCc), 0u);
  EXPECT_EQ(driver.Read(Property::kCsts), 0u);
  EXPECT_EQ(driver.Read(Property::kAqa), 0u);
  queue.Clear();
  StartIo();
}

TEST_F(ControllerTest, FunctionLevelReset) {
  StartIo();
  const auto capability = client.Read<uint8_t>(kConfigRegion, PCI_CAPABILITY_LIST);
  auto at = capability;
  while (at != 0 && client.Read<uint8_t>(kConfigRegion, at) != PCI_CAP_ID_EXP)
    at = client.Read<uint8_t>(kConfigRegion, at + 1);
  ASSERT_NE(at, 0);
  EXPECT_EQ(client.Write<uint16_t>(kConfigRegion, at + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR), 0);
  EXPECT_TRUE(driver.WaitStatus(~0u, 0));
  queue.Clear();
  StartIo();
}

TEST_F(ControllerTest, ShutdownCompletes) {
  StartIo();
  driver.Write(Property::kCc, NvmeDriver::kEnableBits | nvme::kShutdownNormal << nvme::kCcShnShift);
  EXPECT_TRUE(driver.WaitStatus(nvme::kCstsShutdownMask, nvme::kCstsShutdownComplete));
  ASSERT_TRUE(driver.Disable());
  queue.Clear();
  StartIo();
}

TEST_F(ControllerTest, InvalidConfigurationIsFatalUntilReset) {
  driver.Write(Property::kAqa, 31 << 16 | 31);
  driver.Write(Property::kCc, nvme::kCcEnable);  // entry sizes of 1
  EXPECT_TRUE(driver.WaitStatus(nvme::kCstsFatal, nvme::kCstsFatal));
  ASSERT_TRUE(driver.Disable());
  // Tests an unsupported page size.
  driver.Write(Property::kCc, NvmeDriver::kEnableBits | 1u << nvme::kCcMpsShift);
  EXPECT_TRUE(driver.WaitStatus(nvme::kCstsFatal, nvme::kCstsFatal));
  ASSERT_TRUE(driver.Disable());
  queue.Clear();
  StartIo();
}

TEST_F(ControllerTest, EachQueueHasItsMsixInterrupt) {
  auto admin_event = MakeEventFd();
  auto io_event = MakeEventFd();
  const int fds[] = {admin_event.get(), io_event.get()};
  ASSERT_EQ(client.SetEventFds(VFIO_PCI_MSIX_IRQ_INDEX, 0, 2, fds), 0);
  ASSERT_TRUE(driver.Enable());
  ASSERT_TRUE(driver.Create(queue, 1, true));
  EXPECT_TRUE(WaitEvent(admin_event.get()));
  EXPECT_FALSE(WaitEvent(io_event.get(), std::chrono::milliseconds(0)));
  EXPECT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, 0, page)), Status::kSuccess);
  EXPECT_TRUE(WaitEvent(io_event.get()));
}

TEST_F(ControllerTest, MaskedVectorIsPendingUntilUnmasked) {
  auto event = MakeEventFd();
  const int fd = event.get();
  ASSERT_EQ(client.SetEventFds(VFIO_PCI_MSIX_IRQ_INDEX, 3, 1, std::span(&fd, 1)), 0);
  ASSERT_TRUE(driver.Enable());
  ASSERT_TRUE(driver.Create(queue, 3, true));
  ASSERT_EQ(client.ActOnIrqs(VFIO_PCI_MSIX_IRQ_INDEX, 3, 1, VFIO_IRQ_SET_ACTION_MASK), 0);
  EXPECT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, 0, page)), Status::kSuccess);
  // The interrupt is raised at the end of the round that posted the completion, so the pending bit
  // is set when the next message is handled, at the latest.
  EXPECT_EQ(client.Read<uint32_t>(kBar4, kPbaOffset), 1u << 3);
  EXPECT_FALSE(WaitEvent(fd, std::chrono::milliseconds(0)));
  ASSERT_EQ(client.ActOnIrqs(VFIO_PCI_MSIX_IRQ_INDEX, 3, 1, VFIO_IRQ_SET_ACTION_UNMASK), 0);
  EXPECT_TRUE(WaitEvent(fd));
  EXPECT_EQ(client.Read<uint32_t>(kBar4, kPbaOffset), 0u);
}

TEST_F(ControllerTest, IntxStaysUntilCompletionsAreConsumed) {
  auto event = MakeEventFd();
  const int fd = event.get();
  ASSERT_EQ(client.SetEventFds(VFIO_PCI_INTX_IRQ_INDEX, 0, 1, std::span(&fd, 1)), 0);
  ASSERT_TRUE(driver.Enable());
  Command command;
  command.opcode = static_cast<uint8_t>(AdminOpcode::kGetFeatures);
  command.cdw10 = static_cast<uint32_t>(nvme::Feature::kArbitration);
  driver.admin().Push(command);
  driver.RingTail(driver.admin());
  ASSERT_TRUE(WaitEvent(fd));
  // The completion has not been consumed, so unmasking raises the interrupt again.
  ASSERT_EQ(client.ActOnIrqs(VFIO_PCI_INTX_IRQ_INDEX, 0, 1, VFIO_IRQ_SET_ACTION_UNMASK), 0);
  ASSERT_TRUE(WaitEvent(fd));
  // INTMS masks the interrupt.
  driver.Write(Property::kIntms, 1);
  EXPECT_EQ(driver.Read(Property::kIntms), 1u);
  ASSERT_EQ(client.ActOnIrqs(VFIO_PCI_INTX_IRQ_INDEX, 0, 1, VFIO_IRQ_SET_ACTION_UNMASK), 0);
  EXPECT_FALSE(WaitEvent(fd, std::chrono::milliseconds(0)));
  driver.Write(Property::kIntmc, 1);
  EXPECT_TRUE(WaitEvent(fd));
  ASSERT_TRUE(driver.Wait(driver.admin()));
  ASSERT_EQ(client.ActOnIrqs(VFIO_PCI_INTX_IRQ_INDEX, 0, 1, VFIO_IRQ_SET_ACTION_UNMASK), 0);
  EXPECT_FALSE(WaitEvent(fd, std::chrono::milliseconds(0)));
}

TEST_F(ControllerTest, CoalescingReducesInterrupts) {
  auto event = MakeEventFd();
  StartIoWithCoalescing(event.get());
  Command feature;
  feature.opcode = static_cast<uint8_t>(AdminOpcode::kGetFeatures);
  feature.cdw10 = static_cast<uint32_t>(nvme::Feature::kInterruptCoalescing);
  auto value = driver.Admin(feature);
  ASSERT_TRUE(value);
  EXPECT_EQ(value->dw0, 0xffffu);
  // The last completion is signalled when the function becomes idle, at the latest.
  for (int i = 0; i < 20; ++i)
    ASSERT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, 0, page)), Status::kSuccess);
  EXPECT_TRUE(WaitEvent(event.get()));
}

// Makes one round of its reactor take 5 ms on request.
class SlowPoller : public Poller {
 public:
  explicit SlowPoller(Reactor& reactor) : reactor_(reactor) {
    reactor_.Invoke([this] { reactor_.AddPoller(this); });
  }
  ~SlowPoller() override {
    reactor_.Invoke([this] { reactor_.RemovePoller(this); });
  }

  bool Poll() override {
    if (slow_once.exchange(false)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return false;
  }

  std::atomic<bool> slow_once{false};

 private:
  Reactor& reactor_;
};

// A round of the reactor takes so long that the reactor goes to sleep before the function has
// noticed that it is idle.
TEST_F(ControllerTest, CoalescedInterruptsAreRaisedBeforeSleeping) {
  SlowPoller slow(target.io());
  auto event = MakeEventFd();
  StartIoWithCoalescing(event.get());
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, 0, page)), Status::kSuccess);
    slow.slow_once = true;
    ASSERT_TRUE(WaitEvent(event.get()));
  }
}

TEST_F(ControllerTest, ClientDisconnectsAndReconnects) {
  for (int round = 0; round < 3; ++round) {
    queue.Clear();
    StartIo();
    for (int i = 0; i < 30; ++i) queue.Push(OverPages(IoOpcode::kRead, 0, page));
    driver.RingTail(queue);
    client.Disconnect();
    Connect();
    EXPECT_EQ(driver.Read(Property::kCc), 0u);
  }
}

TEST_F(ControllerTest, SecondClientWaitsForTheFirst) {
  StartIo();
  harness::VfioUserClient second;
  ASSERT_TRUE(second.Connect(target.socket_path()));
  EXPECT_EQ(driver.Run(queue, OverPages(IoOpcode::kRead, 0, page)), Status::kSuccess);
  client.Disconnect();
  EXPECT_TRUE(second.Negotiate());
}

TEST_F(ControllerTest, UnmapStopsQueuesAndMapStartsThem) {
  StartIo();
  // The rings are unmapped and mapped again while commands are waiting.
  ASSERT_EQ(client.Unmap(ram.guest_address(), ram.size_bytes()), 0);
  for (int i = 0; i < 10; ++i) queue.Push(OverPages(IoOpcode::kRead, 0, page));
  driver.RingTail(queue);
  EXPECT_EQ(driver.Read(Property::kCsts), nvme::kCstsReady);
  EXPECT_FALSE(queue.Poll());
  ASSERT_EQ(client.Map(ram), 0);
  for (int i = 0; i < 10; ++i) {
    auto completion = driver.Wait(queue);
    ASSERT_TRUE(completion);
    EXPECT_EQ(nvme::StatusOf(completion->status), Status::kSuccess);
  }
}

TEST_F(ControllerTest, RemovedListenerEndsTheClient) {
  StartIo();
  target.Wait(
      [&](auto done) { EXPECT_EQ(target.subsystem().RemoveListener(target.address(), done), 0); });
  EXPECT_TRUE(client.WaitClosed());
  EXPECT_FALSE(std::filesystem::exists(target.socket_path()));
  target.InControl([&] { EXPECT_EQ(target.Listen(), 0); });
  Connect();
  queue.Clear();
  StartIo();
}

TEST_F(ControllerTest, ListenersNeedTheirOwnFolder) {
  target.InControl([&] {
    Transport& transport = *target.target().FindTransport("VFIOUSER");
    TransportAddress address = target.address();
    EXPECT_EQ(transport.Listen(address, TestTarget::kNqn).error(), EADDRINUSE);
    address.address += "/none";
    EXPECT_EQ(transport.Listen(address, TestTarget::kNqn).error(), ENOENT);
    address.address = "/" + std::string(200, 'x');
    EXPECT_EQ(transport.Listen(address, TestTarget::kNqn).error(), ENAMETOOLONG);
    address.address = "relative";
    EXPECT_EQ(transport.Listen(address, TestTarget::kNqn).error(), EINVAL);
  });
}

}  // namespace
}  // namespace sma::storage_target::nvmf::vfio_user
