// SPDX-License-Identifier: Apache-2.0

// Tests outstanding I/O whose command is aborted or whose host disconnects.

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "storage_target/nvmf/testing/io_fixture.h"

namespace sma::storage_target::nvmf {
namespace {

using nvme::IoOpcode;
using nvme::Status;

using LateIoTest = IoFixture;

class PatientLateIoTest : public IoFixture {
 protected:
  PatientLateIoTest() : IoFixture(60'000, 60'000) {}
};

TEST_F(LateIoTest, AbortsAThrottledCommandOfAnotherQueue) {
  LimitDisk();
  auto first = BeginWrite(1);
  auto held = BeginWrite(2);
  EXPECT_TRUE(first->answered);
  EXPECT_FALSE(held->answered);
  EXPECT_EQ(Abort(1, 2).dw0, 0u);
  EXPECT_TRUE(held->answered);
  EXPECT_EQ(held->status(), Status::kAbortRequested);
  EXPECT_EQ(module_.seen_types.size(), 1u);
}

TEST_F(LateIoTest, AbortFailsWhenTheMediumHasTheCommand) {
  module_.complete_at_once = false;
  auto write = BeginWrite(7);
  EXPECT_EQ(Abort(1, 7).dw0, 1u);
  EXPECT_EQ(Abort(1, 8).dw0, 1u);  // no such command
  EXPECT_EQ(Abort(2, 7).dw0, 1u);  // no such queue
  EXPECT_FALSE(write->answered);
  CompletePending();
  EXPECT_EQ(write->status(), Status::kSuccess);
}

TEST_F(LateIoTest, AbortedDatasetManagementStopsDeallocating) {
  module_.complete_at_once = false;
  nvme::DsmRange ranges[3] = {{.block_count = 1, .lba = 1}, {.block_count = 1, .lba = 2}, {}};
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(IoOpcode::kDatasetManagement);
  command.nsid = 1;
  command.cid = 3;
  command.cdw10 = 2;
  command.cdw11 = nvme::kDsmDeallocate;
  auto deallocate = io_->Begin(command, 0, std::as_bytes(std::span(ranges)));
  EXPECT_EQ(Abort(1, 3).dw0, 1u);  // the medium already has the first range
  CompletePending();
  EXPECT_TRUE(deallocate->answered);
  EXPECT_EQ(deallocate->status(), Status::kAbortRequested);
  EXPECT_EQ(module_.seen_types.size(), 1u);
}

TEST_F(LateIoTest, AnAbortedWriteIsNotExecutedWhenItsDataArrives) {
  io_->has_data = false;
  auto write = BeginWrite(4);
  EXPECT_EQ(Abort(1, 4).dw0, 1u);
  EXPECT_FALSE(write->answered);
  io_->Deliver(*write);
  EXPECT_TRUE(write->answered);
  EXPECT_EQ(write->status(), Status::kAbortRequested);
  EXPECT_TRUE(module_.seen_types.empty());
}

TEST_F(LateIoTest, TheEndOfAnAssociationAbortsThrottledIo) {
  LimitDisk();
  std::vector<std::shared_ptr<FakeQueuePair::FakeRequest>> writes;
  for (uint16_t cid = 0; cid < 30; ++cid) writes.push_back(BeginWrite(cid));
  admin_->Hangup();
  EXPECT_TRUE(RunUntil([&] { return admin_->detached() && io_->detached(); }));
  EXPECT_EQ(module_.seen_types.size(), 1u);
  // The aborted I/O also does not delay the host's next association.
  FakeQueuePair* again = MakeQueuePair();
  auto connect = again->BeginConnect(kNqn);
  EXPECT_TRUE(RunUntil([&] { return connect->answered; }));
  EXPECT_EQ(connect->status(), Status::kSuccess);
}

TEST_F(LateIoTest, ANewAssociationWaitsForIoOfAnEarlierOne) {
  module_.complete_at_once = false;
  auto write = BeginWrite(1);
  admin_->Hangup();
  FakeQueuePair* again = MakeQueuePair();
  FakeQueuePair* other = MakeQueuePair();
  auto connect = again->BeginConnect(kNqn);
  auto other_connect =
      other->BeginConnect(kNqn, 0, nvme::ConnectData::kAnyControllerId, "nqn.2016-06.io.spdk:b");
  RunPosted();
  EXPECT_FALSE(connect->answered);
  EXPECT_TRUE(other_connect->answered);  // I/O of another host is irrelevant
  EXPECT_EQ(other_connect->status(), Status::kSuccess);
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return connect->answered; }));
  EXPECT_EQ(connect->status(), Status::kSuccess);
  EXPECT_FALSE(write->answered);
}

TEST_F(LateIoTest, ANewAssociationWaitsForAnIoQueueThatHasEnded) {
  module_.complete_at_once = false;
  BeginWrite(1);
  io_->Hangup();
  FakeQueuePair* again = MakeQueuePair();
  auto connect = again->BeginConnect(kNqn);
  RunPosted();
  EXPECT_FALSE(connect->answered);
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return connect->answered; }));
  EXPECT_EQ(connect->status(), Status::kSuccess);
}

TEST_F(LateIoTest, ANewAssociationIsRefusedWhenAnEarlierOneDoesNotEnd) {
  module_.complete_at_once = false;
  BeginWrite(1);
  admin_->Hangup();
  FakeQueuePair* again = MakeQueuePair();
  auto connect = again->BeginConnect(kNqn);
  EXPECT_TRUE(RunUntil([&] { return connect->answered; }));
  EXPECT_EQ(connect->status(), Status::kConnectControllerBusy);
  EXPECT_FALSE(nvme::DoNotRetry(connect->completion.status));
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return admin_->detached() && io_->detached(); }));
  EXPECT_EQ(again->Connect(kNqn), Status::kSuccess);
}

TEST_F(LateIoTest, DoesNotWaitForAConnectedPathOfTheHost) {
  module_.complete_at_once = false;
  BeginWrite(1);
  EXPECT_EQ(MakeQueuePair()->Connect(kNqn), Status::kSuccess);
}

// The queue pairs are queried once for the first Connect and once for all others, not once for
// each.
TEST_F(PatientLateIoTest, ManyConnectsOfAHostWithManyAssociationsAreCheckedTogether) {
  constexpr size_t kAssociations = 300;
  constexpr size_t kConnects = 100;
  std::vector<FakeQueuePair*> earlier = {admin_, io_};
  while (earlier.size() < kAssociations) {
    earlier.push_back(MakeQueuePair());
    ASSERT_EQ(earlier.back()->Connect(kNqn), Status::kSuccess);
  }
  module_.complete_at_once = false;
  BeginWrite(1);
  io_->Hangup();
  RunPosted();
  auto processed = [&] {
    size_t count = 0;
    for (const FakeQueuePair* queue_pair : earlier) count += queue_pair->process_received_count();
    return count;
  };
  const size_t processed_before = processed();
  const uint64_t visits_before = subsystem_->earlier_associations().visits();
  std::vector<std::shared_ptr<FakeQueuePair::FakeRequest>> connects;
  while (connects.size() < kConnects) connects.push_back(MakeQueuePair()->BeginConnect(kNqn));
  RunPosted();
  // Ends associations for which the Connect commands do not wait.
  for (size_t i = kAssociations / 2; i < kAssociations; ++i) earlier[i]->Drop();
  EXPECT_FALSE(connects.front()->answered);
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return connects.back()->answered; }));
  for (const auto& connect : connects) EXPECT_EQ(connect->status(), Status::kSuccess);
  EXPECT_LE(processed() - processed_before, 2 * kAssociations);
  EXPECT_LE(subsystem_->earlier_associations().visits() - visits_before,
            2 * kAssociations + kConnects);
}

TEST_F(LateIoTest, DeletingTheSubsystemEndsTheWait) {
  module_.complete_at_once = false;
  BeginWrite(1);
  admin_->Hangup();
  FakeQueuePair* again = MakeQueuePair();
  auto connect = again->BeginConnect(kNqn);
  RunPosted();
  bool deleted = false;
  target_.DeleteSubsystem(*subsystem_, [&] { deleted = true; });
  EXPECT_TRUE(RunUntil([&] { return connect->answered; }));
  EXPECT_EQ(connect->status(), Status::kConnectControllerBusy);
  EXPECT_FALSE(deleted);
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return deleted; }));
}

TEST_F(LateIoTest, AHostThatAbandonsConnectLeavesNothingBehind) {
  module_.complete_at_once = false;
  BeginWrite(1);
  admin_->Hangup();
  FakeQueuePair* again = MakeQueuePair();
  again->BeginConnect(kNqn);
  RunPosted();
  again->Hangup();
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return again->detached(); }));
  EXPECT_TRUE(subsystem_->associations().all().empty());
}

}  // namespace
}  // namespace sma::storage_target::nvmf
