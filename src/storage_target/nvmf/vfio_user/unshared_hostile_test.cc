// SPDX-License-Identifier: Apache-2.0

// Tests clients that reply incorrectly, late or never to requests for memory that they do not
// share.

#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/nvmf/vfio_user/testing/unshared_fixture.h"
#include "storage_target/nvmf/vfio_user/unshared_data.h"

namespace sma::storage_target::nvmf::vfio_user {
namespace {

using harness::NvmeQueue;
using nvme::AdminOpcode;
using nvme::Command;
using nvme::IoOpcode;
using nvme::Status;
using Message = harness::VfioUserClient::Message;
using VfioCommand = storage_target::vfio_user::Command;
using storage_target::vfio_user::DmaAccess;

TEST_F(UnsharedTest, RefusedMessagesFailOnlyTheCommand) {
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

TEST_F(UnsharedTest, InvalidRepliesFailOnlyTheCommand) {
  for (int wrong = 0; wrong < 5; ++wrong) {
    far.SetInterceptor([&](const Message& message) {
      auto access = message.As<DmaAccess>();
      storage_target::vfio_user::Header header = message.header;
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

TEST_F(UnsharedTest, AReplyWithoutARequestEndsTheSession) {
  Withhold();
  queue.Push(OverPages(IoOpcode::kWrite, 0, Far(0)));
  driver.RingTail(queue);
  ASSERT_TRUE(WaitWithheld(1));
  storage_target::vfio_user::Header header = withheld[0].header;
  header.message_id = static_cast<uint16_t>(header.message_id + 1);
  client.Reply(header, {});
  EXPECT_TRUE(client.WaitClosed());
  far.SetInterceptor(nullptr);
  Restart("{}");
  EXPECT_EQ(Write(Far(0)), Status::kSuccess);
}

TEST_F(UnsharedTest, MissingRepliesDelayOnlyUnsharedCommands) {
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

TEST_F(UnsharedTest, UnmapDoesNotWaitForTheClientsReplies) {
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

TEST_F(UnsharedTest, ResetsDoNotWaitForTheClientsReplies) {
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

TEST_F(UnsharedTest, TheClientDisconnectsDuringARequest) {
  Withhold();
  for (int i = 0; i < 20; ++i) queue.Push(OverPages(IoOpcode::kWrite, 0, Far(0)));
  driver.RingTail(queue);
  ASSERT_TRUE(WaitWithheld(1));
  far.SetInterceptor(nullptr);
  Restart("{}");
  EXPECT_EQ(Write(Far(0)), Status::kSuccess);
}

TEST_F(UnsharedTest, WaitingCommandsAreAborted) {
  Withhold();
  std::vector<uint16_t> ids;
  for (uint32_t i = 0; i < UnsharedData::kBufferCount + 1; ++i)
    ids.push_back(queue.Push(OverPages(i == 0 ? IoOpcode::kRead : IoOpcode::kWrite, 0, Far(0))));
  driver.RingTail(queue);
  ASSERT_TRUE(WaitWithheld(1));
  // Aborts one command that has an outstanding request to the client, and one that has no buffer.
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

// Cancels many waits, as when a controller with full queues is reset. Those at the end of the list
// must not take longer than those at its beginning.
TEST(UnsharedDataTest, ManyThatWaitAreTakenBackQuickly) {
  constexpr size_t kMany = 20'000;
  constexpr size_t kPart = 500;
  const storage_target::vfio_user::DmaMap memory{};
  UnsharedData data(memory, nvme::kMinPageSize);
  data.Prepare();
  std::vector<MemoryRequest> requests(kMany + UnsharedData::kBufferCount);
  for (MemoryRequest& request : requests) data.Acquire(request);
  auto cancel = [&](size_t begin, size_t end) {
    const uint64_t start_ns = bdev::ThreadCpuNs();
    for (size_t i = begin; i < end; ++i)
      EXPECT_EQ(data.CancelWait(requests[i]), i >= UnsharedData::kBufferCount) << i;
    return bdev::ThreadCpuNs() - start_ns;
  };
  const uint64_t last_ns = cancel(requests.size() - kPart, requests.size());
  const uint64_t first_ns = cancel(0, kPart);
  EXPECT_LT(last_ns, 10 * first_ns + 1'000'000);
  EXPECT_FALSE(data.CancelWait(requests.back()));
  for (MemoryRequest& request : requests) data.Release(request);
  // The remaining requests must be returned in their order.
  for (size_t i = kPart; i < requests.size() - kPart; ++i)
    ASSERT_EQ(data.TakeWaiting() == &requests[i], i < kPart + UnsharedData::kBufferCount);
  for (MemoryRequest& request : requests) data.Release(request);
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
}  // namespace sma::storage_target::nvmf::vfio_user
