// SPDX-License-Identifier: Apache-2.0

// Tests that aborted commands do not reach the remote side later.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "storage_target/bdev_modules/nvme/testing/module_fixture.h"

namespace sma::storage_target::bdev_nvme {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using initiator::FakeServer;
using nvme::Status;
using namespace std::chrono_literals;

class AbortTest : public ModuleFixture {
 protected:
  void SetUp() override { server_.AddNamespace(1, 2048); }

  void AttachDisk() {
    AttachOptions options = OptionsFor("nv0", server_);
    options.reconnect = ReconnectOptions{-1, 1, 0};
    ASSERT_TRUE(Attach(options).ok());
    disk_.emplace(registry_, *reactor_, "nv0n1");
    TestIo io(IoType::kRead, 0, 1, 512);
    ASSERT_EQ(RunIo(*disk_->channel, io), IoStatus::kOk);
  }
  bool IsUp() const { return module_.Find("nv0")->paths()[0]->state() == Path::State::kEnabled; }
  void TakeDown() {
    server_.StopListening();
    RunUntil([&] { return !IsUp(); });
  }
  void BringUp() {
    server_.Listen();
    RunUntil([&] { return IsUp(); });
    TestIo io(IoType::kRead, 0, 1, 512);
    ASSERT_EQ(RunIo(*disk_->channel, io), IoStatus::kOk);
  }
  /// Holds and counts every I/O command from now on.
  void HoldIo() {
    server_.hook = [this](uint16_t queue_id, const nvme::Command& command) {
      std::optional<FakeServer::Reply> reply;
      if (queue_id == 0) return reply;
      commands_.push_back(command);
      if (hold_) reply = FakeServer::Reply{.held = true};
      return reply;
    };
  }
  // Submits the first I/O since HoldIo, and waits until the remote side has its command.
  void SubmitUntilSent(TestIo& io) {
    disk_->channel->Submit(io);
    RunUntil([&] { return commands_.size() == 1; });
  }
  void SubmitMany() {
    many_done_ = 0;
    many_ = std::vector<bdev::Io>(kMany);
    for (bdev::Io& io : many_) {
      io.block_count = 1;
      io.iovs = &block_iov_;
      io.iov_count = 1;
      io.done = [](bdev::Io&, IoStatus status) {
        many_done_ += status == IoStatus::kAborted ? 1 : 0;
      };
      disk_->channel->Submit(io);
    }
  }
  // Aborts the I/Os from `begin` to `end` and returns the CPU time used.
  uint64_t AbortMany(size_t begin, size_t end) {
    const uint64_t start_ns = bdev::ThreadCpuNs();
    for (size_t i = begin; i < end; ++i) disk_->channel->Abort(many_[i]);
    return bdev::ThreadCpuNs() - start_ns;
  }
  // Checks that the last aborts are not slower than the first ones.
  void ExpectQuickAborts() {
    constexpr size_t kPart = 1000;
    const uint64_t last_ns = AbortMany(kMany - kPart, kMany);
    const uint64_t before_ns = AbortMany(kPart, 2 * kPart);
    EXPECT_LT(last_ns, 10 * before_ns + 5'000'000);
    AbortMany(2 * kPart, kMany - kPart);
    AbortMany(0, kPart);
  }
  /// Writes and aborts; the write completes, and the Abort command is held. Returns the CID of the
  /// write.
  uint16_t AbortAndCompleteAWrite() {
    server_.hook = [this](uint16_t queue_id, const nvme::Command& command) {
      std::optional<FakeServer::Reply> reply;
      bool is_abort =
          queue_id == 0 && command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kAbort);
      if (is_abort) abort_ = command;
      if (queue_id != 0) commands_.push_back(command);
      if (is_abort || (queue_id != 0 && hold_)) reply = FakeServer::Reply{.held = true};
      return reply;
    };
    TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
    SubmitUntilSent(write);
    EXPECT_FALSE(Abort(write));
    RunUntil([&] { return abort_.has_value(); });
    const uint16_t cid = commands_.front().cid;
    EXPECT_EQ(abort_->cdw10, uint32_t{cid} << 16 | 1u);
    hold_ = false;
    commands_.clear();
    EXPECT_EQ(server_.ReleaseHeld(1), 1);
    RunUntil([&] { return write.result.has_value(); });
    return cid;
  }
  bool Abort(TestIo& io) { return disk_->channel->Abort(io); }
  std::string FirstBlock() { return server_.namespaces[1].content.substr(0, 512); }

  static constexpr size_t kMany = 60'000;
  static inline size_t many_done_ = 0;
  std::vector<bdev::Io> many_;
  std::array<std::byte, 512> block_{};
  iovec block_iov_{block_.data(), block_.size()};
  std::optional<TestDisk> disk_;
  std::vector<nvme::Command> commands_;
  std::optional<nvme::Command> abort_;
  bool hold_ = true;
};

TEST_F(AbortTest, AWriteThatWaitsForAPathEndsAtOnceAndIsNeverSent) {
  AttachDisk();
  TakeDown();
  TestIo old_write(IoType::kWrite, 0, 1, 512, std::byte{1});
  disk_->channel->Submit(old_write);
  RunFor(20ms);
  EXPECT_FALSE(old_write.result);
  EXPECT_TRUE(Abort(old_write));
  EXPECT_EQ(old_write.result, IoStatus::kAborted);
  // Exports the same disk through a second gateway.
  server_.namespaces[1].content.assign(2048 * 512, 'n');
  BringUp();
  EXPECT_EQ(FirstBlock(), std::string(512, 'n'));
}

// Many I/Os are aborted, as when the hosts of a gateway time out.
TEST_F(AbortTest, ManyIosThatWaitForAPathAreAbortedQuickly) {
  AttachDisk();
  TakeDown();
  SubmitMany();
  ExpectQuickAborts();
  EXPECT_EQ(many_done_, kMany);
}

// Submits more I/Os than the queue pair has command identifiers.
TEST_F(AbortTest, ManyIosThatWaitInTheQueueAreAbortedQuickly) {
  AttachDisk();
  HoldIo();
  SubmitMany();
  ExpectQuickAborts();
  server_.hook = nullptr;
  server_.DropConnections();  // drops the connections of the commands that were sent
  RunUntil([&] { return many_done_ == kMany; });
}

TEST_F(AbortTest, AWriteThatWaitsForARetryEndsAtOnce) {
  AttachDisk();
  int tries = 0;
  server_.hook = [&](uint16_t queue_id, const nvme::Command&) {
    std::optional<FakeServer::Reply> reply;
    if (queue_id != 0 && ++tries > 0)
      reply = FakeServer::Reply{.status = Status::kNamespaceNotReady};
    return reply;
  };
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  disk_->channel->Submit(write);
  RunUntil([&] { return tries == 1; });
  RunFor(20ms);
  const int tries_before = tries;  // may exceed one on a loaded system
  EXPECT_TRUE(Abort(write));
  EXPECT_EQ(write.result, IoStatus::kAborted);
  RunFor(300ms);
  EXPECT_EQ(tries, tries_before);
}

TEST_F(AbortTest, ACommandOnTheWireIsAbortedAtTheRemote) {
  AttachDisk();
  HoldIo();
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  SubmitUntilSent(write);
  EXPECT_FALSE(Abort(write));
  EXPECT_FALSE(write.result);
  EXPECT_FALSE(Abort(write)) << "again";
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kAborted);
  EXPECT_EQ(server_.count(nvme::AdminOpcode::kAbort), 1);
  EXPECT_EQ(server_.ReleaseHeld(), 0);
  EXPECT_EQ(FirstBlock(), std::string(512, 0));
}

TEST_F(AbortTest, ACommandOnTheWireIsNotSentAgainAfterALoss) {
  AttachDisk();
  HoldIo();
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  SubmitUntilSent(write);
  EXPECT_FALSE(Abort(write));
  server_.StopListening();
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kAborted);
  commands_.clear();
  hold_ = false;
  BringUp();
  EXPECT_EQ(commands_.size(), 1u);  // the read that BringUp has sent
  EXPECT_EQ(FirstBlock(), std::string(512, 0));
}

TEST_F(AbortTest, ACommandThatCompletesDuringItsAbortKeepsItsStatus) {
  AttachDisk();
  HoldIo();
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  SubmitUntilSent(write);
  server_.ReleaseHeld();
  EXPECT_FALSE(Abort(write));
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kOk);
  RunUntil([&] { return server_.count(nvme::AdminOpcode::kAbort) == 1; });
}

TEST_F(AbortTest, NoFurtherPartOfALargeWriteIsSent) {
  AttachDisk();
  HoldIo();
  TestIo write(IoType::kWrite, 0, 1200, 512, std::byte{1});  // 128 KiB per command
  SubmitUntilSent(write);
  server_.ReleaseHeld();
  EXPECT_FALSE(Abort(write));
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kAborted);
  RunFor(20ms);
  EXPECT_EQ(commands_.size(), 1u);
}

TEST_F(AbortTest, ACommandThatWaitsInTheQueueIsRemoved) {
  ModuleOptions options;
  options.io_queue_requests = 1;
  ASSERT_EQ(module_.SetOptions(options), 0);
  AttachDisk();
  HoldIo();
  TestIo first(IoType::kWrite, 0, 1, 512, std::byte{1});
  TestIo second(IoType::kWrite, 1, 1, 512, std::byte{2});
  disk_->channel->Submit(first);
  disk_->channel->Submit(second);
  RunUntil([&] { return commands_.size() == 1; });
  EXPECT_TRUE(Abort(second));
  EXPECT_EQ(second.result, IoStatus::kAborted);
  EXPECT_EQ(server_.ReleaseHeld(), 1);
  RunUntil([&] { return first.result.has_value(); });
  RunFor(20ms);
  EXPECT_EQ(commands_.size(), 1u);
}

// If the CID were reused, the Abort command could abort the next command with that CID.
TEST_F(AbortTest, ACidIsNotReusedBeforeItsAbortIsAnswered) {
  AttachDisk();
  const uint16_t cid = AbortAndCompleteAWrite();
  for (int i = 0; i < 20; ++i) {
    TestIo read(IoType::kRead, 0, 1, 512);
    EXPECT_EQ(RunIo(*disk_->channel, read), IoStatus::kOk);
  }
  for (const nvme::Command& command : commands_) EXPECT_NE(command.cid, cid);
  // Completes the Abort command. The CID is lower than those in use at that moment, so it is reused
  // only after enough commands are outstanding immediately.
  EXPECT_EQ(server_.ReleaseHeld(), 1);
  bool used_again = false;
  for (size_t depth = 1; depth < 20 && !used_again; ++depth) {
    commands_.clear();
    std::vector<std::unique_ptr<TestIo>> reads;
    for (size_t i = 0; i < depth; ++i) {
      reads.push_back(std::make_unique<TestIo>(IoType::kRead, 0, 1, 512));
      disk_->channel->Submit(*reads.back());
    }
    for (const auto& read : reads) RunUntil([&] { return read->result.has_value(); });
    for (const nvme::Command& command : commands_) used_again |= command.cid == cid;
  }
  EXPECT_TRUE(used_again);
}

// A new queue pair would start with the same CIDs.
TEST_F(AbortTest, AQueueWithoutUsersStaysUntilItsAbortIsAnswered) {
  AttachDisk();
  AbortAndCompleteAWrite();
  disk_->channel.reset();
  Settle();
  const int accepted = server_.accepted_count();
  disk_->channel = disk_->descriptor->OpenChannel(*reactor_);
  TestIo read(IoType::kRead, 0, 1, 512);
  EXPECT_EQ(RunIo(*disk_->channel, read), IoStatus::kOk);
  EXPECT_EQ(server_.accepted_count(), accepted);
  disk_->channel.reset();
  Settle();
  EXPECT_EQ(server_.connection_count(), 2u);
  EXPECT_EQ(server_.ReleaseHeld(), 1);
  RunUntil([&] { return server_.connection_count() == 1; });
}

}  // namespace
}  // namespace sma::storage_target::bdev_nvme
