// SPDX-License-Identifier: Apache-2.0

// Tests that a write that was sent on a lost path is not sent again while the remote may still
// execute the first copy, which could then overwrite newer data.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "storage_target/bdev_modules/nvme/testing/module_fixture.h"

namespace sma::storage_target::bdev_nvme {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using initiator::FakeServer;
using nvme::IoOpcode;
using std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kKeepAlive = 200ms;
constexpr auto kQuiesceTime = 2 * kKeepAlive + 1000ms;  // see Controller::quiesce_time

/// A disk with two paths. The first one, which all I/O uses, leads to server_.
class LateWriteTest : public ModuleFixture {
 protected:
  void SetUp() override {
    ModuleOptions options;
    options.keep_alive_timeout_ms = static_cast<uint32_t>(kKeepAlive.count());
    ASSERT_EQ(module_.SetOptions(options), 0);
    server_.AddNamespace(1, 64);
    second_.AddNamespace(1, 64);
    second_.identity.controller_id = 2;
    AttachOptions attach = OptionsFor("nv0", server_);
    attach.reconnect = ReconnectOptions{-1, 1, 0};
    ASSERT_TRUE(Attach(attach).ok());
    attach.address = second_.address();
    ASSERT_TRUE(Attach(attach).ok());
    disk_.emplace(registry_, *reactor_, "nv0n1");
    RunUntil([&] { return server_.connection_count() == 2 && second_.connection_count() == 2; });
    TestIo read(IoType::kRead, 0, 1, 512);
    ASSERT_EQ(RunIo(*disk_->channel, read), IoStatus::kOk);
    second_.hook = [this](uint16_t queue_id, const nvme::Command& command) {
      bool is_write = command.opcode == static_cast<uint8_t>(IoOpcode::kWrite) ||
                      command.opcode == static_cast<uint8_t>(IoOpcode::kWriteZeroes);
      if (queue_id != 0 && is_write) ++second_writes_;
      return std::optional<FakeServer::Reply>();
    };
  }
  void TearDown() override {
    disk_.reset();
    second_.hook = nullptr;
    ModuleFixture::TearDown();
  }

  /// Submits `io` on the first path, whose network holds it from now on, and waits until the path
  /// is lost.
  void LoseWith(TestIo& io) {
    server_.Freeze();
    disk_->channel->Submit(io);
    sent_ = steady_clock::now();
    RunUntil([&] { return path(0).state() != Path::State::kEnabled; });
    // The other path is usable.
    TestIo read(IoType::kRead, 0, 1, 512);
    EXPECT_EQ(RunIo(*disk_->channel, read), IoStatus::kOk);
  }
  const Path& path(size_t index) const { return *module_.Find("nv0")->paths()[index]; }
  void Await(const TestIo& io) {
    RunUntil([&] { return io.result.has_value(); });
  }

  FakeServer second_{*reactor_};
  std::optional<TestDisk> disk_;
  int second_writes_ = 0;
  steady_clock::time_point sent_;
};

TEST_F(LateWriteTest, AWriteIsHeldUntilTheRemoteHasEndedTheAssociation) {
  TestIo write(IoType::kWrite, 3, 1, 512, std::byte{7});
  LoseWith(write);
  EXPECT_FALSE(write.result);
  Await(write);
  EXPECT_EQ(write.result, IoStatus::kOk);
  EXPECT_GE(steady_clock::now() - sent_, kQuiesceTime);
  EXPECT_EQ(second_writes_, 1);
  EXPECT_TRUE(second_.namespaces[1].content.substr(3 * 512, 512) == std::string(512, 7));
  // The connection was reset, so what the network held does not matter any more.
  server_.Thaw();
  RunUntil([&] { return path(0).state() == Path::State::kEnabled; });
}

TEST_F(LateWriteTest, WriteZeroesAndUnmapAreHeld) {
  TestIo zeroes(IoType::kWriteZeroes, 3, 1, 512);
  TestIo unmap(IoType::kUnmap, 8, 8, 512);
  server_.Freeze();
  disk_->channel->Submit(unmap);
  LoseWith(zeroes);
  EXPECT_FALSE(zeroes.result);
  EXPECT_FALSE(unmap.result);
  Await(zeroes);
  Await(unmap);
  EXPECT_GE(steady_clock::now() - sent_, kQuiesceTime);
}

TEST_F(LateWriteTest, ReadsAndFlushesContinueAtOnce) {
  TestIo read(IoType::kRead, 3, 1, 512);
  TestIo flush(IoType::kFlush, 0, 0, 512);
  server_.Freeze();
  disk_->channel->Submit(flush);
  LoseWith(read);
  Await(read);
  Await(flush);
  EXPECT_LT(steady_clock::now() - sent_, kQuiesceTime);
}

TEST_F(LateWriteTest, AWriteContinuesWhenTheRemoteClosesTheConnection) {
  TestIo write(IoType::kWrite, 3, 1, 512, std::byte{7});
  LoseWith(write);
  EXPECT_FALSE(write.result);
  server_.DropConnections();
  Await(write);
  EXPECT_EQ(write.result, IoStatus::kOk);
  EXPECT_LT(steady_clock::now() - sent_, kQuiesceTime);
}

// The end of the connection is sent behind the commands, and a working remote answers it.
TEST_F(LateWriteTest, AResetOfAWorkingPathDoesNotHoldAWrite) {
  server_.hook = [](uint16_t queue_id, const nvme::Command&) {
    std::optional<FakeServer::Reply> reply;
    if (queue_id != 0) reply = FakeServer::Reply{.silent = true};
    return reply;
  };
  TestIo write(IoType::kWrite, 3, 1, 512, std::byte{7});
  disk_->channel->Submit(write);
  RunFor(20ms);
  EXPECT_FALSE(write.result);
  server_.hook = nullptr;
  sent_ = steady_clock::now();
  module_.Find("nv0")->Reset([](int) {});
  Await(write);
  EXPECT_EQ(write.result, IoStatus::kOk);
  EXPECT_LT(steady_clock::now() - sent_, kQuiesceTime);
}

TEST_F(LateWriteTest, AWriteWhoseDataWereNotRequestedContinuesAtOnce) {
  TestIo write(IoType::kWrite, 0, 64, 512, std::byte{7});
  LoseWith(write);
  Await(write);
  EXPECT_EQ(write.result, IoStatus::kOk);
  EXPECT_LT(steady_clock::now() - sent_, kQuiesceTime);
}

TEST_F(LateWriteTest, AnAbortedWriteIsNotSentAgain) {
  TestIo write(IoType::kWrite, 3, 1, 512, std::byte{7});
  LoseWith(write);
  EXPECT_FALSE(disk_->channel->Abort(write)) << "the remote may still execute it";
  RunFor(20ms);
  EXPECT_FALSE(write.result);
  server_.DropConnections();
  Await(write);
  EXPECT_EQ(write.result, IoStatus::kAborted);
  EXPECT_EQ(second_writes_, 0);
}

TEST_F(LateWriteTest, AWriteToARemovedDiskEnds) {
  TestIo write(IoType::kWrite, 3, 1, 512, std::byte{7});
  LoseWith(write);
  disk_->events.on_remove = nullptr;
  write.then = [this] { disk_->Close(); };
  ASSERT_EQ(module_.Detach("nv0", {}, [] {}), 0);
  Await(write);
  EXPECT_EQ(write.result, IoStatus::kGone);
  EXPECT_EQ(second_writes_, 0);
  EXPECT_LT(steady_clock::now() - sent_, kQuiesceTime);
}

TEST_F(LateWriteTest, AWriteOfADetachedPathIsHeld) {
  TestIo write(IoType::kWrite, 3, 1, 512, std::byte{7});
  server_.Freeze();
  disk_->channel->Submit(write);
  RunFor(20ms);
  sent_ = steady_clock::now();
  ASSERT_EQ(module_.Detach("nv0", {.address = server_.address()}, [] {}), 0);
  Await(write);
  EXPECT_EQ(write.result, IoStatus::kOk);
  EXPECT_GE(steady_clock::now() - sent_, kQuiesceTime);
}

}  // namespace
}  // namespace sma::storage_target::bdev_nvme
