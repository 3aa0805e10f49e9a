// Clients that answer wrongly, late or never when they are asked for memory that they do not share.

#include "target/nvmf/vfio_user/unshared_data.h"
#include "target/nvmf/vfio_user/unshared_fixture.h"

namespace sma::target::nvmf::vfio_user {
namespace {

using harness::NvmeQueue;
using nvme::AdminOpcode;
using nvme::Command;
using nvme::IoOpcode;
using nvme::Status;
using Message = harness::VfioUserClient::Message;
using VfioCommand = target::vfio_user::Command;
using target::vfio_user::DmaAccess;

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

}  // namespace
}  // namespace sma::target::nvmf::vfio_user
