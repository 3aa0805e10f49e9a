// Memory that the client maps without a descriptor.

#include <thread>

#include "harness/vfio_user/unshared_ram.h"
#include "target/nvme/identify.h"
#include "target/nvme/nqn.h"
#include "target/nvmf/vfio_user/function_fixture.h"
#include "target/nvmf/vfio_user/unshared_data.h"

namespace sma::target::nvmf::vfio_user {
namespace {

using harness::GuestBuffer;
using harness::IoCommand;
using harness::NvmeQueue;
using harness::UnsharedRam;
using nvme::AdminOpcode;
using nvme::Command;
using nvme::IoOpcode;
using nvme::Status;
using Message = harness::VfioUserClient::Message;
using VfioCommand = target::vfio_user::Command;
using target::vfio_user::DmaAccess;

class UnsharedTest : public FunctionTest {
 protected:
  static constexpr uint64_t kFarAddress = uint64_t{1} << 40;

  void SetUp() override {
    FunctionTest::SetUp();
    StartIo();
  }

  void StartIo() {
    ASSERT_EQ(far.Map(), 0);
    ASSERT_TRUE(driver.Enable());
    queue.Clear();
    ASSERT_TRUE(driver.Create(queue));
  }

  // As from a new client with these capabilities.
  void Restart(const std::string& capabilities) {
    client.Disconnect();
    ASSERT_TRUE(client.Connect(target.socket_path()));
    ASSERT_TRUE(client.Negotiate(capabilities));
    ASSERT_EQ(client.Map(ram), 0);
    StartIo();
  }

  GuestBuffer Far(size_t page, size_t pages = 1) {
    return {far.AddressOf(page * kPage), far.bytes().subspan(page * kPage, pages * kPage)};
  }
  Status Write(const GuestBuffer& from, uint64_t lba = 0) {
    return driver.Run(queue, OverPages(IoOpcode::kWrite, lba, from));
  }
  Status Read(const GuestBuffer& to, uint64_t lba = 0) {
    return driver.Run(queue, OverPages(IoOpcode::kRead, lba, to));
  }

  // Keeps the server's messages until they are to be answered.
  void Withhold() {
    far.SetInterceptor([this](const Message& message) {
      withheld.push_back({message.header, message.payload, {}});
      return true;
    });
  }
  bool WaitWithheld(size_t count) {
    const auto until = std::chrono::steady_clock::now() + harness::VfioUserClient::kTimeout;
    while (withheld.size() < count && std::chrono::steady_clock::now() < until) {
      client.ServeRequests();
      std::this_thread::yield();
    }
    return withheld.size() == count;
  }
  void AnswerWithheld() {
    far.SetInterceptor(nullptr);
    for (const Message& message : std::exchange(withheld, {})) far.Answer(message);
  }

  UnsharedRam far{client, kFarAddress, 1 << 20};
  NvmeQueue queue{ram, 1, 64, 64};
  GuestBuffer near = ram.Allocate(32 * kPage, kPage);
  std::vector<Message> withheld;
};

TEST_F(UnsharedTest, ReadsWhatWasWritten) {
  for (uint32_t pages : {1u, 2u, 3u, 32u}) {
    const GuestBuffer out = Far(0, pages);
    const GuestBuffer in = Far(64, pages);
    Fill(out.bytes, pages);
    ASSERT_EQ(Write(out, pages), Status::kSuccess);
    ASSERT_EQ(Read(in, pages), Status::kSuccess);
    EXPECT_TRUE(Holds(in.bytes, pages)) << pages;
  }
  EXPECT_EQ(far.reads(), 5u);  // of 64 KiB at most
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
  // Data that are shared, by a list that is not.
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
  // Segments without end, each fetched.
  command.sgl.length = sizeof(nvme::Sgl);
  std::memcpy(segments.bytes.data(), &command.sgl, sizeof command.sgl);
  EXPECT_EQ(driver.Run(queue, command), Status::kInvalidNumberOfSglDescriptors);
}

TEST_F(UnsharedTest, OneCommandMayTouchBothKindsOfMemory) {
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

TEST_F(UnsharedTest, MessagesAreAsLargeAsTheClientTakes) {
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

TEST_F(UnsharedTest, OtherCommandsHaveDataThereToo) {
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
  // One range to deallocate, of the first block.
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

TEST_F(UnsharedTest, NothingIsAskedThatTheClientDoesNotAllow) {
  UnsharedRam constant(client, kFarAddress * 2, kPage);
  ASSERT_EQ(constant.Map(target::vfio_user::kDmaReadable), 0);
  const GuestBuffer page{constant.guest_address(), constant.bytes()};
  EXPECT_EQ(Write(page), Status::kSuccess);
  EXPECT_EQ(Read(page), Status::kDataTransferError);
  EXPECT_EQ(constant.writes(), 0u);
  // Beyond its end.
  Command command = OverPages(IoOpcode::kWrite, 0, page);
  command.sgl.address += 8;
  EXPECT_EQ(driver.Run(queue, command), Status::kDataTransferError);
}

TEST_F(UnsharedTest, RefusedMessagesEndTheCommandAlone) {
  far.SetInterceptor(
      [this](const Message& message) { return client.Reply(message.header, {}, EFAULT); });
  EXPECT_EQ(Write(Far(0)), Status::kDataTransferError);
  EXPECT_EQ(Read(Far(0)), Status::kDataTransferError);
  list = Far(40);
  near.bytes = near.bytes.first(4 * kPage);
  EXPECT_EQ(Write(near), Status::kDataTransferError);
  far.SetInterceptor(nullptr);
  EXPECT_EQ(Write(Far(0)), Status::kSuccess);
}

TEST_F(UnsharedTest, WrongAnswersEndTheCommandAlone) {
  for (int wrong = 0; wrong < 5; ++wrong) {
    far.SetInterceptor([&](const Message& message) {
      auto access = message.As<DmaAccess>();
      target::vfio_user::Header header = message.header;
      if (wrong == 0) header.command = VfioCommand::kDmaMap;
      if (wrong == 1) access.address += 1;
      if (wrong == 2) access.count -= 1;
      const auto head = std::as_bytes(std::span(&access, 1));
      std::vector<std::byte> payload(head.begin(), head.end());
      const bool reads = message.header.command == VfioCommand::kDmaRead;
      if (reads) payload.resize(sizeof access + kPage);
      if (wrong == 3) payload.pop_back();
      if (wrong == 4) payload.push_back(std::byte{0});
      return client.Reply(header, payload);
    });
    EXPECT_EQ(Write(Far(0)), Status::kDataTransferError) << wrong;
    EXPECT_EQ(Read(Far(0)), Status::kDataTransferError) << wrong;
  }
  far.SetInterceptor(nullptr);
  EXPECT_EQ(Write(Far(0)), Status::kSuccess);
}

TEST_F(UnsharedTest, WritesAreAnsweredInThreeWays) {
  for (size_t size : {size_t{0}, size_t{12}, sizeof(DmaAccess)}) {
    far.SetInterceptor([&](const Message& message) {
      if (message.header.command != VfioCommand::kDmaWrite) return false;
      return client.Reply(message.header, std::span(message.payload).first(size));
    });
    EXPECT_EQ(Read(Far(0)), Status::kSuccess) << size;
  }
}

TEST_F(UnsharedTest, AnAnswerToNothingEndsTheSession) {
  Withhold();
  queue.Push(OverPages(IoOpcode::kWrite, 0, Far(0)));
  driver.RingTail(queue);
  ASSERT_TRUE(WaitWithheld(1));
  target::vfio_user::Header header = withheld[0].header;
  header.message_id = static_cast<uint16_t>(header.message_id + 1);
  client.Reply(header, {});
  EXPECT_TRUE(client.WaitClosed());
  far.SetInterceptor(nullptr);
  Restart("{}");
  EXPECT_EQ(Write(Far(0)), Status::kSuccess);
}

// More commands than there are buffers.
TEST_F(UnsharedTest, WithheldAnswersHoldUpOnlyCommandsOfTheirKind) {
  NvmeQueue other(ram, 2, 64, 64);
  ASSERT_TRUE(driver.Create(other));
  Withhold();
  constexpr int kCommands = 3 * UnsharedData::kBufferCount;
  for (int i = 0; i < kCommands; ++i)
    queue.Push(OverPages(i % 2 == 0 ? IoOpcode::kWrite : IoOpcode::kRead, 0, Far(0)));
  driver.RingTail(queue);
  ASSERT_TRUE(WaitWithheld(1));
  near.bytes = near.bytes.first(4 * kPage);
  EXPECT_EQ(driver.Run(other, OverPages(IoOpcode::kRead, 0, near)), Status::kSuccess);
  EXPECT_EQ(withheld.size(), 1u);
  EXPECT_FALSE(queue.Poll());
  AnswerWithheld();
  for (int i = 0; i < kCommands; ++i) {
    auto completion = driver.Wait(queue);
    ASSERT_TRUE(completion) << i;
    EXPECT_EQ(nvme::StatusOf(completion->status), Status::kSuccess);
  }
}

TEST_F(UnsharedTest, UnmapDoesNotWaitForTheClientsOwnAnswers) {
  Withhold();
  for (int i = 0; i < 20; ++i)
    queue.Push(OverPages(i % 2 == 0 ? IoOpcode::kWrite : IoOpcode::kRead, 0, Far(0, 20)));
  driver.RingTail(queue);
  ASSERT_TRUE(WaitWithheld(1));
  ASSERT_EQ(client.Unmap(kFarAddress, far.bytes().size()), 0);
  AnswerWithheld();
  for (int i = 0; i < 20; ++i) {
    auto completion = driver.Wait(queue);
    ASSERT_TRUE(completion) << i;
    EXPECT_EQ(nvme::StatusOf(completion->status), Status::kDataTransferError) << i;
  }
  ASSERT_EQ(far.Map(), 0);
  EXPECT_EQ(Write(Far(0)), Status::kSuccess);
}

TEST_F(UnsharedTest, ResetsDoNotWaitForTheClientsAnswers) {
  for (int round = 0; round < 3; ++round) {
    Withhold();
    for (int i = 0; i < 20; ++i)
      queue.Push(OverPages(i % 2 == 0 ? IoOpcode::kWrite : IoOpcode::kRead, 0, Far(0)));
    driver.RingTail(queue);
    ASSERT_TRUE(WaitWithheld(1));
    if (round == 0) {
      ASSERT_EQ(client.Do(VfioCommand::kDeviceReset), 0);
    } else if (round == 1) {
      ASSERT_TRUE(driver.Disable());
    } else {
      EXPECT_EQ(driver.Delete(AdminOpcode::kDeleteIoSq, 1), Status::kSuccess);
      ASSERT_TRUE(driver.Disable());
    }
    AnswerWithheld();  // late
    ASSERT_TRUE(driver.Enable());
    queue.Clear();
    ASSERT_TRUE(driver.Create(queue));
    EXPECT_EQ(Write(Far(0)), Status::kSuccess);
  }
}

TEST_F(UnsharedTest, TheClientGoesWhileItIsAsked) {
  Withhold();
  for (int i = 0; i < 20; ++i) queue.Push(OverPages(IoOpcode::kWrite, 0, Far(0)));
  driver.RingTail(queue);
  ASSERT_TRUE(WaitWithheld(1));
  far.SetInterceptor(nullptr);
  Restart("{}");
  EXPECT_EQ(Write(Far(0)), Status::kSuccess);
}

TEST_F(UnsharedTest, CommandsThatWaitAreAborted) {
  Withhold();
  std::vector<uint16_t> ids;
  for (uint32_t i = 0; i < UnsharedData::kBufferCount + 1; ++i)
    ids.push_back(queue.Push(OverPages(i == 0 ? IoOpcode::kRead : IoOpcode::kWrite, 0, Far(0))));
  driver.RingTail(queue);
  ASSERT_TRUE(WaitWithheld(1));
  // One that is asked for, and one without a buffer.
  for (uint16_t id : {ids.front(), ids.back()}) {
    Command abort;
    abort.opcode = static_cast<uint8_t>(AdminOpcode::kAbort);
    abort.cdw10 = uint32_t{id} << 16 | queue.id();
    auto answer = driver.Admin(abort);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->dw0 & 1, 0u);
    auto aborted = driver.Wait(queue);
    ASSERT_TRUE(aborted);
    EXPECT_EQ(aborted->cid, id);
    EXPECT_EQ(nvme::StatusOf(aborted->status), Status::kAbortRequested);
  }
  AnswerWithheld();
  for (uint32_t i = 0; i < UnsharedData::kBufferCount - 1; ++i) {
    auto completion = driver.Wait(queue);
    ASSERT_TRUE(completion);
    EXPECT_EQ(nvme::StatusOf(completion->status), Status::kSuccess);
  }
}

// The data of a read are not the medium's while they wait for the client.
TEST_F(UnsharedTest, ANamespaceGoesWhileTheClientIsAsked) {
  Withhold();
  queue.Push(OverPages(IoOpcode::kRead, 0, Far(0)));
  driver.RingTail(queue);
  ASSERT_TRUE(WaitWithheld(1));
  target.Wait([&](auto done) { EXPECT_EQ(target.subsystem().namespaces().Remove(1, done), 0); });
  AnswerWithheld();
  auto completion = driver.Wait(queue);
  ASSERT_TRUE(completion);
  EXPECT_EQ(nvme::StatusOf(completion->status), Status::kSuccess);
}

TEST_F(UnsharedTest, QueuesHaveToBeShared) {
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
}  // namespace sma::target::nvmf::vfio_user
