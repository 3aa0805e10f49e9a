// SPDX-License-Identifier: Apache-2.0

// Tests of connected paths that cannot execute I/O: path-related status, ANA states and retry
// delays.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage_target/bdev_modules/nvme/testing/module_fixture.h"

namespace sma::storage_target::bdev_nvme {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using initiator::FakeServer;
using nvme::AnaState;
using nvme::Status;
using namespace std::chrono_literals;

class AnaTest : public ModuleFixture {
 protected:
  void SetUp() override {
    for (FakeServer* server : {&server_, &second_}) {
      server->AddNamespace(1, 64);
      server->identity.cmic = nvme::kCmicMultipleControllers | nvme::kCmicAnaReporting;
      server->identity.nanagrpid = 1;
      server->identity.oaes |= nvme::kOaesAnaChange;
      server->ana_groups[1] = AnaState::kOptimized;
    }
    second_.identity.controller_id = 2;
    Answer(server_, &first_status_, &first_ios_);
    Answer(second_, &second_status_, &second_ios_);
  }
  // Makes the server count every I/O command and complete it with `status` unless that is 0.
  static void Answer(FakeServer& server, uint16_t* status, int* count) {
    server.hook = [=](uint16_t queue_id, const nvme::Command& command) {
      std::optional<FakeServer::Reply> reply;
      bool is_io = queue_id != 0 && command.opcode == static_cast<uint8_t>(nvme::IoOpcode::kRead);
      if (!is_io) return reply;
      ++*count;
      if (*status != 0) reply = FakeServer::Reply{.raw_status = *status};
      return reply;
    };
  }
  void AttachFirst() {
    ASSERT_TRUE(Attach(OptionsFor("nv0", server_)).ok());
    disk_.emplace(registry_, *reactor_, "nv0n1");
  }
  void AttachBoth() {
    AttachFirst();
    ASSERT_TRUE(Attach(OptionsFor("nv0", second_)).ok());
    // Ensures that both paths are connected by making each of them in turn the only accessible one.
    SetState(server_, AnaState::kInaccessible);
    EXPECT_EQ(Read(), IoStatus::kOk);
    SetState(server_, first_state_);
    SetState(second_, AnaState::kInaccessible);
    EXPECT_EQ(Read(), IoStatus::kOk);
    SetState(second_, AnaState::kOptimized);
    first_ios_ = second_ios_ = 0;
  }
  std::optional<IoStatus> Read() {
    TestIo io(IoType::kRead, 0, 1, 512);
    return RunIo(*disk_->channel, io);
  }
  void SetState(FakeServer& server, AnaState state) {
    server.ana_groups[1] = state;
    RunUntil([&] {
      return server.SendEvent(nvme::AsyncEventNotice::kAnaChange, nvme::LogPage::kAna) > 0;
    });
    const auto paths = module_.Find("nv0")->paths();
    const Path& path = *paths[&server == &server_ ? 0 : 1];
    RunUntil([&] { return path.AnaStateOf(path.namespaces()[0]) == state; });
    Settle();
  }

  FakeServer second_{*reactor_};
  AnaState first_state_ = AnaState::kOptimized;
  uint16_t first_status_ = 0;
  uint16_t second_status_ = 0;
  int first_ios_ = 0;
  int second_ios_ = 0;
  std::optional<TestDisk> disk_;
};

TEST_F(AnaTest, APathErrorOfTheOnlyPathIsRetriedWithPauses) {
  AttachFirst();
  first_status_ = nvme::StatusField(Status::kHostPathingError);
  TestIo io(IoType::kRead, 0, 1, 512);
  disk_->channel->Submit(io);
  RunFor(2000ms);
  EXPECT_FALSE(io.result);
  EXPECT_GE(first_ios_, 3);
  EXPECT_LE(first_ios_, 10);
  first_status_ = 0;
  RunUntil([&] { return io.result.has_value(); });
  EXPECT_EQ(io.result, IoStatus::kOk);
}

TEST_F(AnaTest, EveryPathErrorIsRetriedOnTheOtherPath) {
  AttachBoth();
  for (Status status :
       {Status::kInternalPathError, Status::kAnaPersistentLoss, Status::kAnaInaccessible,
        Status::kAnaTransition, Status::kControllerPathingError, Status::kHostPathingError}) {
    first_status_ = nvme::StatusField(status, /*do_not_retry=*/true);
    RunFor(150ms);  // until the first path's back-off ends
    const int before = second_ios_;
    EXPECT_EQ(Read(), IoStatus::kOk) << static_cast<int>(status);
    EXPECT_EQ(second_ios_, before + 1);
  }
  // The first path is rarely tried: at most once per I/O, and not during its back-off.
  EXPECT_LE(first_ios_, 6);
}

TEST_F(AnaTest, AnOptimizedPathIsPreferred) {
  first_state_ = AnaState::kNonOptimized;
  AttachBoth();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(second_ios_, 3);
  SetState(second_, AnaState::kInaccessible);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(first_ios_, 3);
  EXPECT_EQ(second_ios_, 3);
  SetState(second_, AnaState::kOptimized);
  EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(second_ios_, 4);
}

TEST_F(AnaTest, IoWaitsWhileNoPathIsAccessible) {
  AttachBoth();
  SetState(server_, AnaState::kInaccessible);
  SetState(second_, AnaState::kChange);
  TestIo io(IoType::kRead, 0, 1, 512);
  disk_->channel->Submit(io);
  RunFor(300ms);
  EXPECT_FALSE(io.result);
  EXPECT_EQ(first_ios_ + second_ios_, 0);
  // No event is sent, so the state must be polled.
  second_.ana_groups[1] = AnaState::kNonOptimized;
  RunUntil([&] { return io.result.has_value(); });
  EXPECT_EQ(io.result, IoStatus::kOk);
  EXPECT_EQ(second_ios_, 1);
}

TEST_F(AnaTest, AnAnaStatusCausesTheLogPageToBeReadAgain) {
  AttachBoth();
  server_.ana_groups[1] = AnaState::kInaccessible;  // without an event
  first_status_ = nvme::StatusField(Status::kAnaInaccessible);
  EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(first_ios_, 1);
  RunUntil([&] {
    const Path& path = *module_.Find("nv0")->paths()[0];
    return path.AnaStateOf(path.namespaces()[0]) == AnaState::kInaccessible;
  });
  RunFor(300ms);  // longer than the first path's back-off after a path error
  EXPECT_EQ(Read(), IoStatus::kOk);
  EXPECT_EQ(first_ios_, 1);
  EXPECT_EQ(second_ios_, 2);
}

TEST_F(AnaTest, IoDoesNotWaitForADiskThatIsLost) {
  AttachFirst();
  SetState(server_, AnaState::kPersistentLoss);
  EXPECT_EQ(Read(), IoStatus::kFailed);
  SetState(server_, AnaState::kOptimized);
  EXPECT_EQ(Read(), IoStatus::kOk);
}

TEST_F(AnaTest, TheBdevReportsTheStateOfEachPath) {
  server_.ana_groups[1] = AnaState::kNonOptimized;
  AttachFirst();
  const bdev::Object info = Find("nv0n1")->DriverSpecific();
  const auto& paths = std::get<bdev::List>(info[0].second);
  ASSERT_EQ(paths.size(), 1u);
  const auto& path = std::get<bdev::Object>(paths[0]);
  const auto& ns_data = std::get<bdev::Object>(path.back().second);
  EXPECT_EQ(ns_data[1].first, "ana_state");
  EXPECT_EQ(std::get<std::string>(ns_data[1].second), "non_optimized");
}

TEST_F(AnaTest, TheControllersRetryDelayIsRespected) {
  server_.identity.crdt[1] = 5;  // 500 ms
  AttachFirst();
  constexpr unsigned kSecondDelay = 2u << 12;
  first_status_ =
      static_cast<uint16_t>(nvme::StatusField(Status::kNamespaceNotReady) | kSecondDelay);
  TestIo io(IoType::kRead, 0, 1, 512);
  disk_->channel->Submit(io);
  RunUntil([&] { return first_ios_ == 1; });
  first_status_ = 0;
  RunFor(400ms);
  EXPECT_EQ(first_ios_, 1);
  RunUntil([&] { return io.result.has_value(); });
  EXPECT_EQ(io.result, IoStatus::kOk);
  EXPECT_EQ(first_ios_, 2);
}

TEST_F(AnaTest, TheHostEnablesRetryDelays) {
  server_.identity.crdt[0] = 1;
  int told = 0;
  server_.hook = [&](uint16_t queue_id, const nvme::Command& command) {
    bool sets =
        queue_id == 0 && command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kSetFeatures);
    told += sets && command.cdw10 == static_cast<uint32_t>(nvme::Feature::kHostBehaviorSupport) &&
            command.sgl.length == 512;
    return std::optional<FakeServer::Reply>();
  };
  AttachFirst();
  EXPECT_EQ(told, 1);
}

TEST(AnaLogTest, ParsesIncompleteLogs) {
  nvme::AnaLogHeader header;
  header.group_count = 3;
  nvme::AnaGroupDescriptor group;
  group.group_id = 7;
  group.state = 0x2;
  group.nsid_count = 2;
  std::vector<std::byte> log(sizeof header + sizeof group + 8 + sizeof group);
  std::memcpy(log.data(), &header, sizeof header);
  std::memcpy(log.data() + sizeof header, &group, sizeof group);
  group.group_id = 8;
  group.state = 0x9;  // undefined
  group.nsid_count = UINT32_MAX;
  std::memcpy(log.data() + sizeof header + sizeof group + 8, &group, sizeof group);
  const initiator::AnaGroups expected{{7, AnaState::kNonOptimized}, {8, AnaState::kInaccessible}};
  EXPECT_EQ(initiator::ParseAnaLog(log), expected);
  EXPECT_TRUE(initiator::ParseAnaLog(std::span(log).first(10)).empty());
}

}  // namespace
}  // namespace sma::storage_target::bdev_nvme
