// SPDX-License-Identifier: Apache-2.0

// Tests writes of a host whose connection on another path has ended with I/O outstanding.

#include <gtest/gtest.h>

#include <memory>

#include "storage_target/nvmf/testing/io_fixture.h"

namespace sma::storage_target::nvmf {
namespace {

using nvme::IoOpcode;
using nvme::Status;
using FakeRequest = FakeQueuePair::FakeRequest;

// The host of the fixture has a second association, on another path.
class HeldWritesTest : public IoFixture {
 protected:
  explicit HeldWritesTest(uint32_t reconnect_timeout_ms = 60'000)
      : IoFixture(60'000, reconnect_timeout_ms) {
    other_admin_ = MakeQueuePair();
    other_admin_->ConnectAdmin(kNqn);
    other_io_ = MakeQueuePair();
    EXPECT_EQ(other_io_->Connect(kNqn, 1, other_admin_->controller().id()), Status::kSuccess);
  }
  static std::shared_ptr<FakeRequest> Begin(FakeQueuePair& queue_pair, IoOpcode opcode) {
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(opcode);
    command.nsid = 1;
    command.cid = 9;
    if (opcode == IoOpcode::kFlush || opcode == IoOpcode::kWriteZeroes)
      return queue_pair.Begin(command);
    if (opcode != IoOpcode::kDatasetManagement) return queue_pair.Begin(command, 512);
    command.cdw11 = nvme::kDsmDeallocate;
    const nvme::DsmRange range{.block_count = 1, .lba = 1};
    return queue_pair.Begin(command, 0, std::as_bytes(std::span(&range, 1)));
  }
  // Starts a write on the first path, which the medium does not complete, and ends `queue_pair`.
  void LosePath(FakeQueuePair& queue_pair) {
    module_.complete_at_once = false;
    BeginWrite(1);
    queue_pair.Hangup();
    module_.complete_at_once = true;
  }
  size_t io_count() const { return module_.seen_types.size(); }

  FakeQueuePair* other_admin_ = nullptr;
  FakeQueuePair* other_io_ = nullptr;
};

class ImpatientHeldWritesTest : public HeldWritesTest {
 protected:
  ImpatientHeldWritesTest() : HeldWritesTest(100) {}
};

class HeldChangesTest : public HeldWritesTest, public testing::WithParamInterface<IoOpcode> {};

TEST_P(HeldChangesTest, WaitForLateIoOfALostQueue) {
  LosePath(*io_);
  auto change = Begin(*other_io_, GetParam());
  RunPosted();
  EXPECT_FALSE(change->answered);
  EXPECT_EQ(io_count(), 1u);
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return change->answered; }));
  EXPECT_EQ(change->status(), Status::kSuccess);
  EXPECT_EQ(io_count(), 2u);
}

INSTANTIATE_TEST_SUITE_P(Opcodes, HeldChangesTest,
                         testing::Values(IoOpcode::kWrite, IoOpcode::kWriteZeroes,
                                         IoOpcode::kDatasetManagement));

// The I/O queue of the ended association has not noticed the end of its connection yet.
TEST_F(HeldWritesTest, WritesWaitAfterTheLossOfTheAdminQueue) {
  LosePath(*admin_);
  auto write = Begin(*other_io_, IoOpcode::kWrite);
  RunPosted();
  EXPECT_FALSE(write->answered);
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return write->answered; }));
  EXPECT_EQ(write->status(), Status::kSuccess);
}

TEST_F(HeldWritesTest, WritesOnOtherQueuesOfTheAssociationWait) {
  FakeQueuePair* second = MakeQueuePair();
  ASSERT_EQ(second->Connect(kNqn, 2, admin_->controller().id()), Status::kSuccess);
  LosePath(*io_);
  auto write = Begin(*second, IoOpcode::kWrite);
  RunPosted();
  EXPECT_FALSE(write->answered);
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return write->answered; }));
  EXPECT_EQ(write->status(), Status::kSuccess);
}

TEST_F(HeldWritesTest, ReadsAndFlushesDoNotWait) {
  LosePath(*io_);
  for (IoOpcode opcode : {IoOpcode::kRead, IoOpcode::kFlush})
    EXPECT_TRUE(Begin(*other_io_, opcode)->answered) << static_cast<int>(opcode);
}

TEST_F(HeldWritesTest, WritesOfAnotherHostDoNotWait) {
  FakeQueuePair* admin = MakeQueuePair();
  auto connect =
      admin->BeginConnect(kNqn, 0, nvme::ConnectData::kAnyControllerId, "nqn.2016-06.io.spdk:b");
  ASSERT_TRUE(RunUntil([&] { return connect->answered; }));
  EXPECT_FALSE(other_io_->controller().host_may_have_late_io());
  LosePath(*io_);
  EXPECT_TRUE(other_io_->controller().host_may_have_late_io());
  EXPECT_FALSE(admin->controller().host_may_have_late_io());
}

TEST_F(HeldWritesTest, WritesContinueWhenAPathEndsWithoutIo) {
  admin_->Hangup();
  auto write = Begin(*other_io_, IoOpcode::kWrite);
  EXPECT_TRUE(RunUntil([&] { return write->answered; }));
  EXPECT_EQ(write->status(), Status::kSuccess);
  EXPECT_TRUE(RunUntil([&] { return admin_->detached() && io_->detached(); }));
  EXPECT_TRUE(Begin(*other_io_, IoOpcode::kWrite)->answered);
}

TEST_F(ImpatientHeldWritesTest, AHeldWriteEndsWithAPathErrorInTime) {
  LosePath(*io_);
  auto write = Begin(*other_io_, IoOpcode::kWrite);
  EXPECT_TRUE(RunUntil([&] { return write->answered; }));
  EXPECT_EQ(write->status(), Status::kInternalPathError);
  EXPECT_FALSE(nvme::DoNotRetry(write->completion.status));
  EXPECT_EQ(io_count(), 1u);
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return io_->detached(); }));
  EXPECT_TRUE(Begin(*other_io_, IoOpcode::kWrite)->answered);
}

class PatientHeldWritesTest : public HeldWritesTest {
 protected:
  PatientHeldWritesTest() : HeldWritesTest(600) {}
};

TEST_F(PatientHeldWritesTest, EachHeldWriteHasItsOwnTime) {
  LosePath(*io_);
  auto first = Begin(*other_io_, IoOpcode::kWrite);
  bool later = false;
  reactor_->AddTimer(std::chrono::milliseconds(300), [&] { later = true; });
  EXPECT_TRUE(RunUntil([&] { return later; }));
  auto second = Begin(*other_io_, IoOpcode::kWrite);
  EXPECT_TRUE(RunUntil([&] { return first->answered; }));
  EXPECT_EQ(first->status(), Status::kInternalPathError);
  EXPECT_FALSE(second->answered);
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return second->answered; }));
  EXPECT_EQ(second->status(), Status::kSuccess);
  EXPECT_EQ(io_count(), 2u);
}

TEST_F(ImpatientHeldWritesTest, EveryHeldWriteEndsWithAPathErrorInTime) {
  LosePath(*io_);
  auto first = Begin(*other_io_, IoOpcode::kWrite);
  bool later = false;
  reactor_->AddTimer(std::chrono::milliseconds(50), [&] { later = true; });
  EXPECT_TRUE(RunUntil([&] { return later; }));
  auto second = Begin(*other_io_, IoOpcode::kWrite);
  EXPECT_TRUE(RunUntil([&] { return first->answered && second->answered; }));
  EXPECT_EQ(second->status(), Status::kInternalPathError);
  EXPECT_EQ(io_count(), 1u);
}

TEST_F(HeldWritesTest, AHeldWriteIsAborted) {
  LosePath(*io_);
  auto write = Begin(*other_io_, IoOpcode::kWrite);
  nvme::Command abort;
  abort.opcode = static_cast<uint8_t>(nvme::AdminOpcode::kAbort);
  abort.cdw10 = uint32_t{9} << 16 | 1;
  EXPECT_EQ(other_admin_->Run(abort)->completion.dw0, 0u);
  EXPECT_TRUE(write->answered);
  EXPECT_EQ(write->status(), Status::kAbortRequested);
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return io_->detached(); }));
  RunPosted();
  EXPECT_EQ(io_count(), 1u);
}

TEST_F(HeldWritesTest, AHeldWriteOfAConnectionThatEndsIsNotExecuted) {
  LosePath(*io_);
  Begin(*other_io_, IoOpcode::kWrite);
  other_io_->Hangup();
  EXPECT_TRUE(RunUntil([&] { return other_io_->detached(); }));
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return io_->detached(); }));
  RunPosted();
  EXPECT_EQ(io_count(), 1u);
}

TEST_F(HeldWritesTest, DeletingTheSubsystemEndsTheWait) {
  LosePath(*io_);
  auto write = Begin(*other_io_, IoOpcode::kWrite);
  RunPosted();
  bool deleted = false;
  target_.DeleteSubsystem(*subsystem_, [&] { deleted = true; });
  EXPECT_TRUE(RunUntil([&] { return other_io_->detached(); }));
  EXPECT_FALSE(deleted);
  CompletePending();
  EXPECT_TRUE(RunUntil([&] { return deleted; }));
  EXPECT_EQ(io_count(), 1u);
}

}  // namespace
}  // namespace sma::storage_target::nvmf
