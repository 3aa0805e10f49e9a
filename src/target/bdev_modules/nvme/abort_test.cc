// What was aborted does not reach the remote side later.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "target/bdev_modules/nvme/module_fixture.h"

namespace sma::target::bdev_nvme {
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
  /// Every I/O command is held from now on, and counted.
  void HoldIo() {
    server_.hook = [this](uint16_t queue_id, const nvme::Command& command) {
      std::optional<FakeServer::Reply> reply;
      if (queue_id == 0) return reply;
      commands_.push_back(command);
      if (hold_) reply = FakeServer::Reply{.held = true};
      return reply;
    };
  }
  bool Abort(TestIo& io) { return disk_->channel->Abort(io); }
  std::string FirstBlock() { return server_.namespaces[1].content.substr(0, 512); }

  std::optional<TestDisk> disk_;
  std::vector<nvme::Command> commands_;
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
  // As a second gateway does.
  server_.namespaces[1].content.assign(2048 * 512, 'n');
  BringUp();
  EXPECT_EQ(FirstBlock(), std::string(512, 'n'));
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
  const int tries_before = tries;  // more than one on a busy machine
  EXPECT_TRUE(Abort(write));
  EXPECT_EQ(write.result, IoStatus::kAborted);
  RunFor(300ms);
  EXPECT_EQ(tries, tries_before);
}

TEST_F(AbortTest, ACommandOnTheWireIsAbortedAtTheRemote) {
  AttachDisk();
  HoldIo();
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  disk_->channel->Submit(write);
  RunUntil([&] { return commands_.size() == 1; });
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
  disk_->channel->Submit(write);
  RunUntil([&] { return commands_.size() == 1; });
  EXPECT_FALSE(Abort(write));
  server_.StopListening();
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kAborted);
  commands_.clear();
  hold_ = false;
  BringUp();
  EXPECT_EQ(commands_.size(), 1u);  // the read of BringUp
  EXPECT_EQ(FirstBlock(), std::string(512, 0));
}

TEST_F(AbortTest, ACommandThatIsDoneMeanwhileEndsAsItDid) {
  AttachDisk();
  HoldIo();
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  disk_->channel->Submit(write);
  RunUntil([&] { return commands_.size() == 1; });
  server_.ReleaseHeld();
  EXPECT_FALSE(Abort(write));
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kOk);
  RunUntil([&] { return server_.count(nvme::AdminOpcode::kAbort) == 1; });
}

TEST_F(AbortTest, NoFurtherPartOfALargeWriteIsSent) {
  AttachDisk();
  HoldIo();
  TestIo write(IoType::kWrite, 0, 1200, 512, std::byte{1});  // 128 KiB a command
  disk_->channel->Submit(write);
  RunUntil([&] { return commands_.size() == 1; });
  server_.ReleaseHeld();
  EXPECT_FALSE(Abort(write));
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kAborted);
  RunFor(20ms);
  EXPECT_EQ(commands_.size(), 1u);
}

TEST_F(AbortTest, ACommandThatWaitsInTheQueueIsTakenOut) {
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

// Otherwise the Abort command could meet the next command with that CID.
TEST_F(AbortTest, ACidIsNotUsedAgainBeforeItsAbortIsAnswered) {
  AttachDisk();
  std::optional<nvme::Command> abort;
  server_.hook = [&](uint16_t queue_id, const nvme::Command& command) {
    std::optional<FakeServer::Reply> reply;
    bool is_abort =
        queue_id == 0 && command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kAbort);
    if (is_abort) abort = command;
    if (queue_id != 0) commands_.push_back(command);
    if (is_abort || (queue_id != 0 && hold_)) reply = FakeServer::Reply{.held = true};
    return reply;
  };
  TestIo write(IoType::kWrite, 0, 1, 512, std::byte{1});
  disk_->channel->Submit(write);
  RunUntil([&] { return commands_.size() == 1; });
  EXPECT_FALSE(Abort(write));
  RunUntil([&] { return abort.has_value(); });
  const uint16_t cid = commands_.front().cid;
  EXPECT_EQ(abort->cdw10, uint32_t{cid} << 16 | 1u);
  // The write is answered, the Abort is not yet.
  hold_ = false;
  commands_.clear();
  EXPECT_EQ(server_.ReleaseHeld(1), 1);
  RunUntil([&] { return write.result.has_value(); });
  for (int i = 0; i < 20; ++i) {
    TestIo read(IoType::kRead, 0, 1, 512);
    EXPECT_EQ(RunIo(*disk_->channel, read), IoStatus::kOk);
  }
  for (const nvme::Command& command : commands_) EXPECT_NE(command.cid, cid);
  // Now it is answered. The CID lies below those that are in use at that moment, so more commands
  // at once each time get to it.
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

}  // namespace
}  // namespace sma::target::bdev_nvme
