// SPDX-License-Identifier: Apache-2.0

// Tests valid and invalid accesses to registers, doorbells, the configuration space and the MSI-X
// table.

#include <linux/pci_regs.h>

#include "storage_target/nvmf/vfio_user/testing/function_fixture.h"

namespace sma::storage_target::nvmf::vfio_user {
namespace {

using harness::GuestBuffer;
using harness::NvmeDriver;
using harness::NvmeQueue;
using nvme::IoOpcode;
using nvme::Property;
using nvme::Status;
using storage_target::vfio_user::kBar0;
using storage_target::vfio_user::kBar4;
using storage_target::vfio_user::kConfigRegion;
using storage_target::vfio_user::SmallWrite;
using VfioCommand = storage_target::vfio_user::Command;

class AccessTest : public FunctionTest {
 protected:
  static constexpr auto kAsq = static_cast<uint64_t>(Property::kAsq);

  std::vector<std::byte> Bytes(size_t count, uint8_t value) {
    return std::vector<std::byte>(count, std::byte{value});
  }
};

TEST_F(AccessTest, WideRegistersAreAccessibleByHalves) {
  EXPECT_EQ(client.Write<uint32_t>(kBar0, kAsq + 4, 0x12345678), 0);
  EXPECT_EQ(client.Write<uint32_t>(kBar0, kAsq, 0x9abcd000), 0);
  EXPECT_EQ(client.Read<uint64_t>(kBar0, kAsq), 0x123456789abcd000u);
  EXPECT_EQ(client.Read<uint32_t>(kBar0, kAsq + 4), 0x12345678u);
  EXPECT_EQ(client.Write<uint64_t>(kBar0, kAsq, 0x1111222233334000), 0);
  EXPECT_EQ(client.Read<uint32_t>(kBar0, kAsq), 0x33334000u);
  const auto cap = client.Read<uint64_t>(kBar0, 0);
  EXPECT_EQ(client.Read<uint32_t>(kBar0, 0), static_cast<uint32_t>(cap));
  EXPECT_EQ(client.Read<uint32_t>(kBar0, 4), static_cast<uint32_t>(cap >> 32));
  // Tests one access that spans two adjacent registers.
  EXPECT_EQ(client.Read<uint64_t>(kBar0, static_cast<uint64_t>(Property::kCsts)), 0u);
}

TEST_F(AccessTest, RegistersAreAccessibleOnlyByDwords) {
  const auto cc = static_cast<uint64_t>(Property::kCc);
  for (const auto& [offset, count] : std::vector<std::pair<uint64_t, size_t>>{
           {0, 1}, {0, 2}, {0, 3}, {0, 5}, {1, 4}, {2, 4}, {3, 4}, {2, 8}, {1, 1}}) {
    EXPECT_EQ(client.WriteRegion(kBar0, cc + offset, Bytes(count, 0x11)), EINVAL) << offset;
    EXPECT_FALSE(client.ReadRegion(kBar0, cc + offset, static_cast<uint32_t>(count))) << offset;
  }
  EXPECT_EQ(client.WriteRegion(kBar0, cc, Bytes(12, 0x11)), EINVAL);
  EXPECT_EQ(driver.Read(Property::kCc), 0u);
  EXPECT_EQ(driver.Read(Property::kCsts), 0u);
}

TEST_F(AccessTest, DoorbellsAreWritableOnlyByDwords) {
  ASSERT_TRUE(driver.Enable());
  NvmeQueue queue(ram, 1, 64, 64);
  ASSERT_TRUE(driver.Create(queue));
  GuestBuffer page = ram.Allocate(kPage, kPage);
  queue.Push(OverPages(IoOpcode::kRead, 0, page));
  const uint64_t tail = nvme::kDoorbellOffset + 8;
  for (const auto& [offset, count] : std::vector<std::pair<uint64_t, size_t>>{
           {0, 1}, {0, 2}, {0, 8}, {1, 4}, {2, 4}, {3, 1}, {0, 16}}) {
    EXPECT_EQ(client.WriteRegion(kBar0, tail + offset, Bytes(count, 1)), EINVAL)
        << offset << " " << count;
  }
  EXPECT_FALSE(queue.Poll());
  driver.RingTail(queue);
  EXPECT_TRUE(driver.Wait(queue));
}

TEST_F(AccessTest, ConfigurationSpaceIsAccessibleByBytes) {
  ASSERT_EQ(client.Write<uint8_t>(kConfigRegion, PCI_COMMAND + 1, PCI_COMMAND_INTX_DISABLE >> 8),
            0);
  ASSERT_EQ(client.Write<uint8_t>(kConfigRegion, PCI_COMMAND, PCI_COMMAND_MEMORY), 0);
  EXPECT_EQ(client.Read<uint16_t>(kConfigRegion, PCI_COMMAND),
            PCI_COMMAND_INTX_DISABLE | PCI_COMMAND_MEMORY);
  // Tests the upper half of a BAR, and a write that spans two BARs.
  ASSERT_EQ(client.Write<uint16_t>(kConfigRegion, PCI_BASE_ADDRESS_1 - 1, 0xabcd), 0);
  EXPECT_EQ(client.Read<uint8_t>(kConfigRegion, PCI_BASE_ADDRESS_1), 0xab);
  EXPECT_EQ(client.Read<uint8_t>(kConfigRegion, PCI_BASE_ADDRESS_1 - 1), 0xcd);
  auto odd = client.ReadRegion(kConfigRegion, PCI_VENDOR_ID + 1, 3);
  ASSERT_TRUE(odd);
  const auto whole = client.Read<uint32_t>(kConfigRegion, PCI_VENDOR_ID);
  EXPECT_EQ(std::memcmp(odd->data(), reinterpret_cast<const char*>(&whole) + 1, 3), 0);
}

TEST_F(AccessTest, MsixTableIsAccessibleByBytes) {
  const uint64_t entry = 5 * 16;
  ASSERT_EQ(client.Write<uint64_t>(kBar4, entry, 0x1122334455667788), 0);
  ASSERT_EQ(client.Write<uint8_t>(kBar4, entry + 3, 0xee), 0);
  ASSERT_EQ(client.Write<uint16_t>(kBar4, entry + 7, 0xbbaa), 0);
  EXPECT_EQ(client.Read<uint64_t>(kBar4, entry), 0xaa223344ee667788u);
  EXPECT_EQ(client.Read<uint8_t>(kBar4, entry + 8), 0xbb);
  // Bytes after the table read as zeroes, and the PBA is read-only.
  ASSERT_EQ(client.Write<uint64_t>(kBar4, kPbaOffset, UINT64_MAX), 0);
  EXPECT_EQ(client.Read<uint64_t>(kBar4, kPbaOffset), 0u);
}

class WriteMultipleTest : public AccessTest {
 protected:
  void SetUp() override {
    ASSERT_TRUE(client.Connect(target.socket_path()));
    // These are the capabilities that QEMU 11.1 sends.
    ASSERT_TRUE(client.Negotiate(R"({"capabilities":{"max_msg_fds":8,)"
                                 R"("max_data_xfer_size":1048576,"pgsizes":4096,)"
                                 R"("max_dma_maps":65535,"write_multiple":true}})"));
    ASSERT_EQ(client.Map(ram), 0);
  }

  static SmallWrite MakeWrite(uint64_t offset, uint32_t count, uint64_t value,
                              uint32_t region = kBar0) {
    SmallWrite write;
    write.access = {offset, region, count};
    std::memcpy(write.data, &value, sizeof write.data);
    return write;
  }
  int Send(uint64_t count, const std::vector<SmallWrite>& writes) {
    std::vector<std::byte> payload(sizeof count);
    std::memcpy(payload.data(), &count, sizeof count);
    const auto bytes = std::as_bytes(std::span(writes));
    payload.insert(payload.end(), bytes.begin(), bytes.end());
    return client.Do(VfioCommand::kRegionWriteMulti, payload);
  }
};

// A client must not be able to cause thousands of polls with one message.
TEST_F(WriteMultipleTest, DoorbellsOfAMessageCauseOnePoll) {
  target.AddMedium();
  ASSERT_TRUE(driver.Enable());
  NvmeQueue queue(ram, 1, 16, 16);
  ASSERT_TRUE(driver.Create(queue));
  GuestBuffer page = ram.Allocate(kPage, kPage);
  nvme::Command read = harness::IoCommand(IoOpcode::kRead, 0, 1, TestTarget::kMediumNsid);
  harness::SetPrps(read, std::vector<uint64_t>{page.guest_address}, list);
  for (int i = 0; i < 16; ++i) queue.Push(read);
  std::vector<SmallWrite> writes;
  for (uint32_t i = 1; i <= 1000; ++i) {
    const uint32_t place = i % 2 * 8;
    writes.push_back(MakeWrite(nvme::kDoorbellOffset + 8, 4, place));   // tail
    writes.push_back(MakeWrite(nvme::kDoorbellOffset + 12, 4, place));  // head
  }
  ASSERT_EQ(Send(writes.size(), writes), 0);
  size_t executed = 0;
  target.io().Invoke([&] { executed = target.medium.seen_types.size(); });
  EXPECT_GT(executed, 0u);
  EXPECT_LE(executed, 64u);
}

TEST_F(WriteMultipleTest, WritesAreExecutedInOrder) {
  NvmeQueue admin(ram, 0, 32, 32);
  ASSERT_EQ(Send(5, {MakeWrite(static_cast<uint64_t>(Property::kAqa), 4, 31 << 16 | 31),
                     MakeWrite(kAsq, 8, admin.sq_address()),
                     MakeWrite(static_cast<uint64_t>(Property::kAcq), 8, admin.cq_address()),
                     MakeWrite(PCI_COMMAND, 2, PCI_COMMAND_MASTER, kConfigRegion),
                     MakeWrite(static_cast<uint64_t>(Property::kCc), 4, NvmeDriver::kEnableBits)}),
            0);
  EXPECT_TRUE(driver.WaitStatus(nvme::kCstsReady, nvme::kCstsReady));
  EXPECT_EQ(client.Read<uint64_t>(kBar0, kAsq), admin.sq_address());
  EXPECT_EQ(client.Read<uint16_t>(kConfigRegion, PCI_COMMAND), PCI_COMMAND_MASTER);
}

TEST_F(WriteMultipleTest, InvalidWritesAreRefused) {
  const SmallWrite good = MakeWrite(kAsq, 8, 0x1000);
  EXPECT_EQ(Send(2, {good}), EINVAL);
  EXPECT_EQ(Send(0, {good}), EINVAL);
  EXPECT_EQ(Send(UINT64_MAX, {good}), EINVAL);
  EXPECT_EQ(Send((UINT64_MAX / sizeof(SmallWrite)) + 2, {good}), EINVAL);
  EXPECT_EQ(client.Read<uint64_t>(kBar0, kAsq), 0u);
  EXPECT_EQ(client.Do(VfioCommand::kRegionWriteMulti, Bytes(sizeof(uint64_t) - 1, 0)), EINVAL);
  EXPECT_EQ(Send(0, {}), 0);
  for (const SmallWrite& bad :
       {MakeWrite(kAsq, 9, 0), MakeWrite(kAsq, UINT32_MAX, 0), MakeWrite(kAsq, 0, 0),
        MakeWrite(kAsq + 2, 4, 0), MakeWrite(UINT64_MAX, 4, 0), MakeWrite(0, 4, 0, 9)}) {
    EXPECT_EQ(Send(3, {good, bad, MakeWrite(kAsq, 8, 0x2000)}), EINVAL);
  }
  // Writes that precede the invalid one are executed; those that follow it are not.
  EXPECT_EQ(client.Read<uint64_t>(kBar0, kAsq), 0x1000u);
}

}  // namespace
}  // namespace sma::storage_target::nvmf::vfio_user
