// SPDX-License-Identifier: Apache-2.0

// Tests I/O during a connection loss: it waits, fails or uses another path.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage_target/bdev_modules/nvme/testing/module_fixture.h"
#include "storage_target/nvme/nqn.h"

namespace sma::storage_target::bdev_nvme {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using initiator::FakeServer;
using testing::ElementsAre;
using namespace std::chrono_literals;

class ReconnectTest : public ModuleFixture {
 protected:
  void SetUp() override { server_.AddNamespace(1, 64); }

  void AttachWith(const ReconnectOptions& reconnect) {
    AttachOptions options = OptionsFor("nv0", server_);
    options.reconnect = reconnect;
    ASSERT_TRUE(Attach(options).ok());
    disk_.emplace(registry_, *reactor_, "nv0n1");
  }
  Path::State state() const { return module_.Find("nv0")->paths()[0]->state(); }
  std::optional<IoStatus> Read() {
    TestIo io(IoType::kRead, 0, 1, 512);
    return RunIo(*disk_->channel, io);
  }

  std::optional<TestDisk> disk_;
};

TEST_F(ReconnectTest, IoWaitsUntilTheRemoteReconnects) {
  AttachWith({-1, 1, 0});
  EXPECT_EQ(Read(), IoStatus::kOk);
  server_.StopListening();
  RunUntil([&] { return state() != Path::State::kEnabled; });
  TestIo write(IoType::kWrite, 3, 2, 512, std::byte{7});
  disk_->channel->Submit(write);
  RunFor(300ms);
  EXPECT_FALSE(write.result) << "it should wait";
  server_.Listen();
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kOk);
  EXPECT_TRUE(server_.namespaces[1].content.substr(3 * 512, 1024) == std::string(1024, 7));
}

TEST_F(ReconnectTest, IoWaitsWhileADiscoveryControllerReplacesTheRemote) {
  AttachWith({-1, 1, 0});
  server_.identity.controller_type = nvme::ControllerType::kDiscovery;
  server_.DropConnections();
  RunUntil([&] { return state() == Path::State::kReconnecting; });
  TestIo write(IoType::kWrite, 3, 1, 512, std::byte{7});
  disk_->channel->Submit(write);
  RunUntil([&] { return state() == Path::State::kWaiting; });  // an attempt has been refused
  EXPECT_FALSE(write.result);
  server_.identity.controller_type = nvme::ControllerType::kIo;
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kOk);
}

TEST_F(ReconnectTest, OutstandingIoIsSentAgain) {
  AttachWith({-1, 1, 0});
  bool silent = true;
  server_.hook = [&](uint16_t queue_id, const nvme::Command& command) {
    std::optional<FakeServer::Reply> reply;
    bool is_write = queue_id != 0 && command.opcode == static_cast<uint8_t>(nvme::IoOpcode::kWrite);
    if (silent && is_write) reply = FakeServer::Reply{.silent = true};
    return reply;
  };
  TestIo write(IoType::kWrite, 0, 64, 512, std::byte{9});
  disk_->channel->Submit(write);
  RunFor(50ms);
  EXPECT_FALSE(write.result);
  silent = false;
  server_.DropConnections();
  RunUntil([&] { return write.result.has_value(); });
  EXPECT_EQ(write.result, IoStatus::kOk);
  EXPECT_TRUE(server_.namespaces[1].content == std::string(64 * 512, 9));
}

TEST_F(ReconnectTest, ALostIoQueueReconnectsTheController) {
  AttachWith({-1, 1, 0});
  EXPECT_EQ(Read(), IoStatus::kOk);
  server_.DropIoConnections();
  RunUntil([&] { return state() != Path::State::kEnabled; });
  RunUntil([&] { return state() == Path::State::kEnabled; });
  EXPECT_EQ(Read(), IoStatus::kOk);
}

TEST_F(ReconnectTest, IoFailsAfterItsTimeout) {
  AttachWith({-1, 1, 1});
  server_.StopListening();
  RunUntil([&] { return state() != Path::State::kEnabled; });
  TestIo io(IoType::kRead, 0, 1, 512);
  disk_->channel->Submit(io);
  RunFor(200ms);
  EXPECT_FALSE(io.result);
  RunUntil([&] { return io.result.has_value(); });
  EXPECT_EQ(io.result, IoStatus::kFailed);
  EXPECT_EQ(Read(), IoStatus::kFailed);
  EXPECT_NE(Find("nv0n1"), nullptr);
  server_.Listen();
  RunUntil([&] { return state() == Path::State::kEnabled; });
  EXPECT_EQ(Read(), IoStatus::kOk);
}

TEST_F(ReconnectTest, ARemoteThatStaysDisconnectedIsRemoved) {
  AttachWith({1, 1, 0});
  server_.StopListening();
  TestIo io(IoType::kRead, 0, 1, 512);
  RunUntil([&] { return state() != Path::State::kEnabled; });
  disk_->channel->Submit(io);
  io.then = [&] { disk_->Close(); };
  disk_->events.on_remove = nullptr;  // closes after its I/O has ended
  RunUntil([&] { return module_.Find("nv0") == nullptr; });
  EXPECT_EQ(io.result, IoStatus::kFailed);
  EXPECT_EQ(Find("nv0n1"), nullptr);
}

TEST_F(ReconnectTest, WithoutReconnectingIoFailsUntilAReset) {
  AttachWith({0, 0, 0});
  server_.StopListening();
  RunUntil([&] { return state() == Path::State::kFailed; });
  EXPECT_EQ(Read(), IoStatus::kFailed);
  std::optional<int> error;
  module_.Find("nv0")->Reset([&](int e) { error = e; });
  RunUntil([&] { return error.has_value(); });
  EXPECT_EQ(*error, EIO);
  server_.Listen();
  error.reset();
  module_.Find("nv0")->Reset([&](int e) { error = e; });
  RunUntil([&] { return error.has_value(); });
  EXPECT_EQ(*error, 0);
  EXPECT_EQ(Read(), IoStatus::kOk);
}

TEST_F(ReconnectTest, AResetReconnects) {
  AttachWith({-1, 1, 0});
  const int before = server_.accepted_count();
  std::optional<int> error;
  module_.Find("nv0")->Reset([&](int e) { error = e; });
  EXPECT_EQ(state(), Path::State::kWaiting);
  RunUntil([&] { return error.has_value(); });
  EXPECT_EQ(*error, 0);
  EXPECT_GT(server_.accepted_count(), before);
  EXPECT_EQ(Read(), IoStatus::kOk);
}

TEST_F(ReconnectTest, AResetOfTheBdevEndsWaitingIo) {
  AttachWith({-1, 1, 0});
  server_.StopListening();
  RunUntil([&] { return state() != Path::State::kEnabled; });
  TestIo io(IoType::kRead, 0, 1, 512);
  disk_->channel->Submit(io);
  std::optional<int> error;
  registry_.Reset(*Find("nv0n1"), [&](int e) { error = e; });
  RunUntil([&] { return error.has_value(); });
  EXPECT_EQ(*error, 0);
  EXPECT_EQ(io.result, IoStatus::kAborted);
}

TEST_F(ReconnectTest, ReconnectsWithPausesIfEveryConnectionIsLost) {
  AttachWith({-1, 1, 0});
  // Every controller becomes ready and is disconnected immediately.
  server_.hook = [&](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    if (command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kAsyncEventRequest)) {
      reactor_->Post([this] { server_.DropConnections(); });
    }
    return {};
  };
  const int before = server_.accepted_count();
  server_.DropConnections();
  RunFor(1500ms);
  // Attempts are made immediately and after 0.1, 0.2, 0.4 and 0.8 s, with two connections each.
  EXPECT_LE(server_.accepted_count() - before, 12);
  EXPECT_GE(server_.accepted_count() - before, 4);
}

TEST_F(ReconnectTest, ChangesDuringALossAreDetected) {
  AttachWith({-1, 1, 0});
  disk_->Close();
  server_.StopListening();
  RunUntil([&] { return state() != Path::State::kEnabled; });
  server_.namespaces.erase(1);
  server_.AddNamespace(2, 8);
  server_.Listen();
  RunUntil([&] { return Find("nv0n2") != nullptr; });
  EXPECT_EQ(Find("nv0n1"), nullptr);
}

TEST_F(ReconnectTest, IoConnectionsExistWhileAChannelUsesThem) {
  AttachWith({-1, 1, 0});
  EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(server_.connection_count(), 2u);
  disk_->Close();
  RunUntil([&] { return server_.connection_count() == 1; });
  disk_.emplace(registry_, *reactor_, "nv0n1");
  EXPECT_EQ(Read(), IoStatus::kOk);
}

// The remote does not answer the shutdown.
TEST_F(ReconnectTest, AResetDuringADetachIsRefusedAndTheDetachEnds) {
  AttachWith({-1, 1, 0});
  disk_->Close();
  server_.hook = [](uint16_t queue_id, const nvme::Command& command) {
    std::optional<FakeServer::Reply> reply;
    bool is_shutdown = queue_id == 0 &&
                       command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kFabrics) &&
                       nvme::FabricsTypeOf(command) == nvme::FabricsType::kPropertySet;
    if (is_shutdown) reply = FakeServer::Reply{.silent = true};
    return reply;
  };
  bool detached = false;
  bool detached_again = false;
  ASSERT_EQ(module_.Detach("nv0", {}, [&] { detached = true; }), 0);
  RunFor(50ms);
  EXPECT_FALSE(detached);
  EXPECT_STREQ(StateName(state()), "deleting");
  std::optional<int> error;
  module_.Find("nv0")->Reset([&](int e) { error = e; });
  EXPECT_EQ(error, ENXIO);
  ASSERT_EQ(module_.Detach("nv0", {.address = server_.address()}, [&] { detached_again = true; }),
            0);
  server_.DropIoConnections();  // a connection loss during the detach has no effect
  const auto begin = std::chrono::steady_clock::now();
  RunUntil([&] { return detached && detached_again; });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
  EXPECT_EQ(module_.Find("nv0"), nullptr);
}

TEST_F(ReconnectTest, AnUnansweredIoDoesNotBlockADetach) {
  AttachWith({-1, 1, 0});
  server_.hook = [](uint16_t queue_id, const nvme::Command&) {
    std::optional<FakeServer::Reply> reply;
    if (queue_id != 0) reply = FakeServer::Reply{.silent = true};
    return reply;
  };
  TestIo io(IoType::kRead, 0, 1, 512);
  disk_->events.on_remove = nullptr;
  io.then = [&] { disk_->Close(); };
  disk_->channel->Submit(io);
  RunFor(20ms);
  const auto begin = std::chrono::steady_clock::now();
  Detach("nv0");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 9s);
  EXPECT_EQ(io.result, IoStatus::kGone);
}

class MultipathTest : public ReconnectTest {
 protected:
  void SetUp() override {
    server_.AddNamespace(1, 64);
    second_.AddNamespace(1, 64);
    second_.identity.controller_id = 2;
  }
  void AttachBoth(MultipathPolicy policy = MultipathPolicy::kActivePassive) {
    AttachOptions options = OptionsFor("nv0", server_);
    options.reconnect = ReconnectOptions{-1, 1, 0};
    options.policy = policy;
    ASSERT_TRUE(Attach(options).ok());
    options.address = second_.address();
    auto names = Attach(options);
    ASSERT_TRUE(names.ok());
    EXPECT_THAT(*names, ElementsAre("nv0n1"));
    disk_.emplace(registry_, *reactor_, "nv0n1");
    // Wait until both paths are connected.
    RunUntil([&] { return server_.connection_count() == 2 && second_.connection_count() == 2; });
    Count(server_, &first_ios_);
    Count(second_, &second_ios_);
  }
  static void Count(FakeServer& server, int* count) {
    server.hook = [count](uint16_t queue_id, const nvme::Command& command) {
      bool is_io = queue_id != 0 && command.opcode == static_cast<uint8_t>(nvme::IoOpcode::kRead);
      *count += is_io ? 1 : 0;
      return std::optional<FakeServer::Reply>();
    };
  }

  FakeServer second_{*reactor_};
  int first_ios_ = 0;
  int second_ios_ = 0;
};

TEST_F(MultipathTest, TheFirstPathGetsAllIoWhileItIsConnected) {
  AttachBoth();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(first_ios_, 4);
  EXPECT_EQ(second_ios_, 0);
  server_.StopListening();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(second_ios_, 4);
  server_.Listen();
  RunUntil([&] { return state() == Path::State::kEnabled; });
  RunUntil([&] { return server_.connection_count() == 2; });
  RunUntil([&] { return Read() == IoStatus::kOk && first_ios_ > 4; });
}

TEST_F(MultipathTest, OutstandingIoMovesToTheOtherPath) {
  AttachBoth();
  server_.hook = [](uint16_t queue_id, const nvme::Command&) {
    std::optional<FakeServer::Reply> reply;
    if (queue_id != 0) reply = FakeServer::Reply{.silent = true};
    return reply;
  };
  TestIo io(IoType::kRead, 0, 1, 512);
  disk_->channel->Submit(io);
  RunFor(20ms);
  EXPECT_FALSE(io.result);
  server_.StopListening();
  RunUntil([&] { return io.result.has_value(); });
  EXPECT_EQ(io.result, IoStatus::kOk);
  EXPECT_EQ(second_ios_, 1);
}

// The I/O connection is dead, but the admin connection works.
TEST_F(MultipathTest, IoThatTimesOutMovesToTheOtherPath) {
  EXPECT_EQ(ModuleOptions{}.action_on_timeout, ModuleOptions::TimeoutAction::kReset);
  EXPECT_EQ(ModuleOptions{}.timeout_us, 10'000'000u);
  ModuleOptions options;
  options.timeout_us = 500'000;
  ASSERT_EQ(module_.SetOptions(options), 0);
  AttachBoth();
  server_.hook = [](uint16_t queue_id, const nvme::Command&) {
    std::optional<FakeServer::Reply> reply;
    if (queue_id != 0) reply = FakeServer::Reply{.silent = true};
    return reply;
  };
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(second_ios_, 1);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 3s);
}

TEST_F(MultipathTest, PathsAreUsedRoundRobin) {
  AttachBoth(MultipathPolicy::kActiveActive);
  // The first I/Os may use one path while the other connection is being established.
  RunUntil([&] { return Read() == IoStatus::kOk && second_ios_ > 0; });
  const int first_before = first_ios_;
  const int second_before = second_ios_;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(first_ios_ - first_before, 5);
  EXPECT_EQ(second_ios_ - second_before, 5);
}

TEST_F(MultipathTest, APathToAnotherSubsystemIsRefused) {
  nvme::SetPadded(second_.identity.serial_number, "OTHER", ' ');
  AttachTo(server_);
  AttachOptions options = OptionsFor("nv0", second_);
  EXPECT_EQ(Attach(options).error(), EINVAL);
  RunUntil([&] { return module_.Find("nv0")->paths().size() == 1; });
  EXPECT_NE(Find("nv0n1"), nullptr);
}

TEST_F(MultipathTest, APathThatCannotBeConnectedIsDropped) {
  AttachTo(server_);
  second_.StopListening();
  EXPECT_EQ(Attach(OptionsFor("nv0", second_)).error(), EIO);
  RunUntil([&] { return module_.Find("nv0")->paths().size() == 1; });
  EXPECT_NE(Find("nv0n1"), nullptr);
}

TEST_F(MultipathTest, OnePathIsDetachedDuringIo) {
  AttachBoth();
  EXPECT_EQ(Read(), IoStatus::kOk);
  Detach("nv0", {.address = server_.address()});
  EXPECT_EQ(module_.Find("nv0")->paths().size(), 1u);
  RunUntil([&] { return server_.connection_count() == 0; });
  EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(second_ios_, 1);
  Detach("nv0", {.address = second_.address()});
  EXPECT_EQ(module_.Find("nv0"), nullptr);
}

TEST_F(MultipathTest, ANamespaceStaysAsLongAsOnePathReportsIt) {
  AttachBoth();
  server_.namespaces.erase(1);
  SendNamespaceEvent(server_);
  RunFor(100ms);
  EXPECT_NE(Find("nv0n1"), nullptr);
}

TEST_F(MultipathTest, FailoverUsesOneAddressAfterTheOther) {
  AttachOptions options = OptionsFor("nv0", server_);
  options.reconnect = ReconnectOptions{-1, 1, 0};
  ASSERT_TRUE(Attach(options).ok());
  options.address = second_.address();
  options.multipath = Multipath::kFailover;
  ASSERT_TRUE(Attach(options).ok());
  disk_.emplace(registry_, *reactor_, "nv0n1");
  EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(second_.accepted_count(), 0);
  server_.StopListening();
  EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(second_.connection_count(), 2u);
  EXPECT_EQ(module_.Find("nv0")->paths()[0]->association().address, second_.address());
}

}  // namespace
}  // namespace sma::storage_target::bdev_nvme
