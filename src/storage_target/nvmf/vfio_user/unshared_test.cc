// SPDX-License-Identifier: Apache-2.0

// Tests memory that the client maps without a descriptor.

#include "storage_target/nvme/identify.h"
#include "storage_target/nvme/nqn.h"
#include "storage_target/nvmf/vfio_user/testing/unshared_fixture.h"

namespace sma::storage_target::nvmf::vfio_user {
namespace {

using harness::GuestBuffer;
using harness::IoCommand;
using harness::UnsharedRam;
using nvme::AdminOpcode;
using nvme::Command;
using nvme::IoOpcode;
using nvme::Status;
using Message = harness::VfioUserClient::Message;
using VfioCommand = storage_target::vfio_user::Command;
using storage_target::vfio_user::DmaAccess;

TEST_F(UnsharedTest, ReadsWhatWasWritten) {
  for (uint32_t pages : {1u, 2u, 3u, 32u}) {
    const GuestBuffer out = Far(0, pages);
    const GuestBuffer in = Far(64, pages);
    Fill(out.bytes, pages);
    ASSERT_EQ(Write(out, pages), Status::kSuccess);
    ASSERT_EQ(Read(in, pages), Status::kSuccess);
    EXPECT_TRUE(Holds(in.bytes, pages)) << pages;
  }
  EXPECT_EQ(far.reads(), 5u);  // of at most 64 KiB
  EXPECT_EQ(far.writes(), 5u);
}

TEST_F(UnsharedTest, PrpListsAreFetched) {
  const GuestBuffer out = Far(0, 8);
  const GuestBuffer lists = Far(32, 2);
  Fill(out.bytes, 9);
  Command command = OverPages(IoOpcode::kWrite, 0, out);
  ChainPrpLists(command, out, lists);
  ASSERT_EQ(driver.Run(queue, command), Status::kSuccess);
  EXPECT_EQ(far.reads(), 3u);
  near.bytes = near.bytes.first(8 * kPage);
  ASSERT_EQ(Read(near), Status::kSuccess);
  EXPECT_TRUE(Holds(near.bytes, 9));
  // The data are shared, but the PRP list is not.
  Fill(near.bytes, 10);
  list = Far(40);
  ASSERT_EQ(Write(near), Status::kSuccess);
  ASSERT_EQ(Read(out), Status::kSuccess);
  EXPECT_TRUE(Holds(out.bytes, 10));
}

TEST_F(UnsharedTest, SglSegmentsAreFetched) {
  const GuestBuffer data = Far(0, 4);
  const GuestBuffer segments = Far(32);
  ASSERT_EQ(Write(GuestBuffer{near.guest_address, near.bytes.first(4 * kPage)}), Status::kSuccess);
  Fill(near.bytes.first(4 * kPage), 4);
  ASSERT_EQ(Write(GuestBuffer{near.guest_address, near.bytes.first(4 * kPage)}), Status::kSuccess);
  const uint64_t next = segments.guest_address + 1024;
  const nvme::Sgl first[] = {
      {.address = data.guest_address, .length = 100},
      {.address = data.guest_address, .length = 0},
      {.address = data.guest_address + 100, .length = kPage},
      {.address = next, .length = 2 * sizeof(nvme::Sgl), .type = nvme::SglType::kLastSegment}};
  const nvme::Sgl last[] = {
      {.address = data.guest_address + 100 + kPage, .length = 3 * kPage - 101},
      {.address = data.guest_address + 4 * kPage - 1, .length = 1}};
  std::memcpy(segments.bytes.data(), first, sizeof first);
  std::memcpy(segments.bytes.data() + 1024, last, sizeof last);
  Command command = IoCommand(IoOpcode::kRead, 0, 4);
  command.flags = nvme::kPsdtSgl;
  command.sgl = {
      .address = segments.guest_address, .length = sizeof first, .type = nvme::SglType::kSegment};
  ASSERT_EQ(driver.Run(queue, command), Status::kSuccess);
  EXPECT_TRUE(Holds(data.bytes, 4));
  // An endless chain of segments, each of which is fetched.
  command.sgl.length = sizeof(nvme::Sgl);
  std::memcpy(segments.bytes.data(), &command.sgl, sizeof command.sgl);
  EXPECT_EQ(driver.Run(queue, command), Status::kInvalidNumberOfSglDescriptors);
}

TEST_F(UnsharedTest, OneCommandMayUseSharedAndUnsharedMemory) {
  const GuestBuffer there = Far(0, 4);
  Fill(there.bytes, 1);
  Fill(near.bytes.first(4 * kPage), 2);
  const std::vector<uint64_t> pages{near.guest_address + kPage, there.guest_address + 3 * kPage,
                                    near.guest_address, there.guest_address};
  Command command = IoCommand(IoOpcode::kWrite, 7, 4);
  harness::SetPrps(command, pages, list);
  ASSERT_EQ(driver.Run(queue, command), Status::kSuccess);
  const GuestBuffer in = Far(16, 4);
  ASSERT_EQ(Read(in, 7), Status::kSuccess);
  const std::byte* expected[] = {&near.bytes[kPage], &there.bytes[3 * kPage], &near.bytes[0],
                                 &there.bytes[0]};
  for (size_t i = 0; i < 4; ++i)
    EXPECT_EQ(std::memcmp(&in.bytes[i * kPage], expected[i], kPage), 0) << i;
}

TEST_F(UnsharedTest, MessagesAreWithinTheClientsLimit) {
  Restart(R"({"capabilities":{"max_data_xfer_size":1000}})");
  const GuestBuffer out = Far(0, 3);
  Fill(out.bytes, 3);
  ASSERT_EQ(Write(out), Status::kSuccess);
  EXPECT_EQ(far.largest_bytes(), 1000u);
  EXPECT_EQ(far.reads(), 13u);
  ASSERT_EQ(Read(Far(8, 3)), Status::kSuccess);
  EXPECT_EQ(far.writes(), 13u);
  EXPECT_TRUE(Holds(Far(8, 3).bytes, 3));
  Restart(R"({"capabilities":{"max_data_xfer_size":0}})");
  EXPECT_EQ(Write(out), Status::kDataTransferError);
  EXPECT_EQ(far.reads(), 13u);
}

TEST_F(UnsharedTest, OtherCommandsUseUnsharedMemoryToo) {
  Command identify;
  identify.opcode = static_cast<uint8_t>(AdminOpcode::kIdentify);
  identify.cdw10 = 1;
  identify.sgl.address = Far(0).guest_address;
  ASSERT_EQ(driver.AdminStatus(identify), Status::kSuccess);
  nvme::IdentifyController id;
  std::memcpy(&id, far.bytes().data(), sizeof id);
  EXPECT_EQ(nvme::NulTerminated(id.subsystem_nqn), TestTarget::kNqn);
  Fill(Far(1).bytes, 1);
  ASSERT_EQ(Write(Far(1)), Status::kSuccess);
  EXPECT_EQ(driver.Run(queue, OverPages(IoOpcode::kCompare, 0, Far(1))), Status::kSuccess);
  Fill(Far(1).bytes, 2);
  EXPECT_EQ(driver.Run(queue, OverPages(IoOpcode::kCompare, 0, Far(1))), Status::kCompareFailure);
  // One range is to be deallocated: the first block.
  const uint32_t range[] = {0, 1, 0, 0};
  std::memcpy(Far(2).bytes.data(), range, sizeof range);
  Command deallocate;
  deallocate.opcode = static_cast<uint8_t>(IoOpcode::kDatasetManagement);
  deallocate.nsid = 1;
  deallocate.cdw11 = 1u << 2;
  deallocate.sgl.address = Far(2).guest_address;
  EXPECT_EQ(driver.Run(queue, deallocate), Status::kSuccess);
  ASSERT_EQ(Read(Far(3)), Status::kSuccess);
  EXPECT_EQ(Far(3).bytes[5], std::byte{0});
}

TEST_F(UnsharedTest, SendsOnlyRequestsThatTheClientAllows) {
  UnsharedRam constant(client, kFarAddress * 2, kPage);
  ASSERT_EQ(constant.Map(storage_target::vfio_user::kDmaReadable), 0);
  const GuestBuffer page{constant.guest_address(), constant.bytes()};
  EXPECT_EQ(Write(page), Status::kSuccess);
  EXPECT_EQ(Read(page), Status::kDataTransferError);
  EXPECT_EQ(constant.writes(), 0u);
  // The address is beyond the end of the memory.
  Command command = OverPages(IoOpcode::kWrite, 0, page);
  command.sgl.address += 8;
  EXPECT_EQ(driver.Run(queue, command), Status::kDataTransferError);
}

TEST_F(UnsharedTest, AcceptsThreeFormsOfWriteReplies) {
  for (size_t size : {size_t{0}, size_t{12}, sizeof(DmaAccess)}) {
    far.SetInterceptor([&](const Message& message) {
      if (message.header.command != VfioCommand::kDmaWrite) return false;
      return client.Reply(message.header, std::span(message.payload).first(size));
    });
    EXPECT_EQ(Read(Far(0)), Status::kSuccess) << size;
  }
}

TEST_F(UnsharedTest, QueuesMustBeInSharedMemory) {
  Command command;
  command.opcode = static_cast<uint8_t>(AdminOpcode::kCreateIoCq);
  command.cdw10 = 7 << 16 | 2;
  command.cdw11 = 1;
  command.sgl.address = kFarAddress;
  EXPECT_EQ(driver.AdminStatus(command), Status::kDataTransferError);
  command.opcode = static_cast<uint8_t>(AdminOpcode::kCreateIoSq);
  command.cdw11 = 1 << 16 | 1;
  EXPECT_EQ(driver.AdminStatus(command), Status::kDataTransferError);
  command.opcode = static_cast<uint8_t>(AdminOpcode::kDoorbellBufferConfig);
  SetPrp2(command, kFarAddress + kPage);
  EXPECT_EQ(driver.AdminStatus(command), Status::kDataTransferError);
  ASSERT_TRUE(driver.Disable());
  client.Write(0, static_cast<uint64_t>(nvme::Property::kAsq), kFarAddress);
  driver.Write(nvme::Property::kCc, harness::NvmeDriver::kEnableBits);
  EXPECT_TRUE(driver.WaitStatus(nvme::kCstsFatal, nvme::kCstsFatal));
  ASSERT_TRUE(driver.Disable());
  ASSERT_TRUE(driver.Enable());
}

}  // namespace
}  // namespace sma::storage_target::nvmf::vfio_user
