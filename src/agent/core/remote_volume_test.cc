// SPDX-License-Identifier: Apache-2.0

// Tests remote volumes with the whole agent and with a target and storage nodes in memory.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "agent/core/testing/remote_fixture.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using jsonrpc::Json;
using spdk::FakeRemote;
using spdk::Fault;

class RemoteVolumeTest : public RemoteFixture {};

TEST_F(RemoteVolumeTest, DiscoveryIsStartedAndStoppedWithTheVolume) {
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  EXPECT_EQ(Namespaces(0), std::vector<std::string>{VolumeUuid(1)});
  EXPECT_EQ(Services().size(), 1);
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_EQ(target_.Dump(), empty_);
  EXPECT_EQ(core_->record().volume_count(), 0u);
}

TEST_F(RemoteVolumeTest, OneServiceForAnAddressHoweverWritten) {
  AttachVolumeRequest other = Discovered(2, {"8009"}, 1);
  other.mutable_volume()
      ->mutable_nvmf()
      ->mutable_discovery()
      ->mutable_discovery_endpoints(0)
      ->set_trtype("tcp");
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  target_.ResetCounts();
  ASSERT_TRUE(Send(other).ok());
  EXPECT_EQ(CountCalls("bdev_nvme_start_discovery"), 0);
  EXPECT_LE(target_.round_trips(), 2u);
  // After the first volume is detached, the second one remains in use.
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_EQ(Services().size(), 1);
  EXPECT_EQ(Namespaces(1), std::vector<std::string>{VolumeUuid(2)});
  ASSERT_TRUE(Detach(Handle(1), 2).ok());
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(RemoteVolumeTest, ReferralsAreTheSameService) {
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  ASSERT_TRUE(Send(Discovered(2, {"4430"})).ok());
  EXPECT_EQ(Services().size(), 1);
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_EQ(Namespaces(0), std::vector<std::string>{VolumeUuid(2)});
  ASSERT_TRUE(Detach(Handle(0), 2).ok());
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(RemoteVolumeTest, OnlyTheRequestedSubsystem) {
  AttachVolumeRequest request = Discovered(1, {"8009"});
  request.mutable_volume()->mutable_nvmf()->set_subnqn("nqn.2016-06.io.spdk:other");
  EXPECT_EQ(Send(request).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(target_.Dump(), empty_);
  request.mutable_volume()->mutable_nvmf()->set_subnqn(kRemoteNqn);
  EXPECT_TRUE(Send(request).ok());
}

TEST_F(RemoteVolumeTest, AFailedAttachLeavesNothing) {
  EXPECT_EQ(Send(Discovered(9, {"8009"})).code(), StatusCode::kNotFound);
  EXPECT_EQ(Send(Discovered(1, {"1"})).code(), StatusCode::kUnavailable);
  EXPECT_EQ(Send(Direct(1, {"1"})).code(), StatusCode::kNotFound);
  EXPECT_EQ(Send(Direct(9, {"4430"})).code(), StatusCode::kNotFound);
  CreateDeviceRequest create = CreateRequest(5);
  *create.mutable_volume() = Discovered(9, {"8009"}).volume();
  EXPECT_EQ(Create(create).code(), StatusCode::kNotFound);
  EXPECT_EQ(target_.Dump(), empty_);
  EXPECT_EQ(core_->record().volume_count(), 0u);
}

// Defect 2: use counts survive a restart of the agent.
TEST_F(RemoteVolumeTest, Defect2_RestartedAgentStopsNoServiceThatIsInUse) {
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  ASSERT_TRUE(Send(Discovered(2, {"8009"})).ok());
  Crash();
  Open();
  EXPECT_EQ(Send(Discovered(9, {"8009"})).code(), StatusCode::kNotFound);
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_EQ(Services().size(), 1);
  EXPECT_EQ(Namespaces(0), std::vector<std::string>{VolumeUuid(2)});
  ASSERT_TRUE(Delete(Handle(0)).ok());
  EXPECT_TRUE(Services().empty());
}

// Defect 2: a service that an operator started is used, and is never stopped.
TEST_F(RemoteVolumeTest, Defect2_AnOperatorsServiceIsNeverStopped) {
  Operator("bdev_nvme_start_discovery", {{"name", "operators"},
                                         {"trtype", "tcp"},
                                         {"adrfam", "ipv4"},
                                         {"traddr", "127.0.0.1"},
                                         {"trsvcid", "8009"}});
  const std::string before = target_.Dump();
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  ASSERT_TRUE(Send(Discovered(2, {"4430"})).ok());
  EXPECT_EQ(Send(Discovered(9, {"8009"})).code(), StatusCode::kNotFound);
  EXPECT_EQ(Services().size(), 1);
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  ASSERT_TRUE(Detach(Handle(0), 2).ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(RemoteVolumeTest, Defect4_DetachFromAnotherDeviceDisconnectsNothing) {
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  const std::string before = target_.Dump();
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(RemoteVolumeTest, Defect19_ConnectionsAreRecreatedOnARestartedTarget) {
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  ASSERT_TRUE(Send(Discovered(2, {"4430"})).ok());
  ASSERT_TRUE(Send(Direct(3, {"4430", "4431"})).ok());
  target_.ResetCounts();
  target_.Restart();
  WaitFor([this] { return Namespaces(0).size() == 3; });
  EXPECT_EQ(Services().size(), 1);
  // The second path may appear after the volumes.
  WaitFor([this] { return Controllers()[0]["ctrlrs"].size() == 2; });
  for (int volume = 1; volume <= 3; ++volume) ASSERT_TRUE(Detach(Handle(0), volume).ok());
  EXPECT_TRUE(Services().empty());
  EXPECT_TRUE(Controllers().empty());
}

// Defect 20: a volume that is temporarily missing is not abandoned.
TEST_F(RemoteVolumeTest, Defect20_AVolumeThatReappearsIsAttachedAgain) {
  options_.drift_period = std::chrono::milliseconds(5);
  Crash();
  Open();
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  FakeRemote without = RemoteA();
  without.subsystems[kRemoteNqn] = {VolumeUuid(2)};
  target_.SetRemote("a", without);
  EXPECT_TRUE(Namespaces(0).empty());
  auto has_error = [this] {
    return core_->record().FindVolume(*base::Uuid::Parse(VolumeUuid(1)))->last_error.code !=
           StatusCode::kOk;
  };
  WaitFor(has_error);
  EXPECT_EQ(Services().size(), 1);
  target_.SetRemote("a", RemoteA());
  WaitFor([this] { return Namespaces(0).size() == 1; });
  WaitFor([&] { return !has_error(); });
}

TEST_F(RemoteVolumeTest, AVolumeThatIsMissingForTooLongIsReportedOrDetached) {
  options_.drift_period = std::chrono::milliseconds(5);
  options_.volume_cleanup_period = std::chrono::milliseconds(20);
  for (bool detach : {false, true}) {
    options_.detach_gone_volumes = detach;
    Crash();
    Open();
    ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
    FakeRemote without = RemoteA();
    without.subsystems[kRemoteNqn] = {VolumeUuid(2)};
    target_.SetRemote("a", without);
    WaitFor([&] {
      auto row = core_->record().FindVolume(*base::Uuid::Parse(VolumeUuid(1)));
      return detach ? !row : row && row->last_error.code == StatusCode::kNotFound;
    });
    EXPECT_EQ(Services().size(), detach ? 0 : 1);
    target_.SetRemote("a", RemoteA());
  }
}

// Only the volume watch can detect the change, because there are no periodic comparisons here.
TEST_F(RemoteVolumeTest, LossAndReturnAreDetectedAtOnce) {
  options_.watch_period = std::chrono::milliseconds(2);
  Crash();
  Open();
  target_.AddBdev(VolumeUuid(7));
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  ASSERT_TRUE(Send(Discovered(2, {"8009"}, 1)).ok());
  ASSERT_TRUE(Attach(Handle(1), 7).ok());
  auto error_of = [this](int volume) {
    return core_->record().FindVolume(*base::Uuid::Parse(VolumeUuid(volume)))->last_error.code;
  };
  FakeRemote without = RemoteA();
  without.subsystems[kRemoteNqn] = {VolumeUuid(2)};
  target_.SetRemote("a", without);
  Operator("bdev_null_delete", {{"name", VolumeUuid(7)}});
  WaitFor([&] { return error_of(1) == StatusCode::kNotFound; });
  WaitFor([&] { return error_of(7) == StatusCode::kNotFound; });
  EXPECT_EQ(error_of(2), StatusCode::kOk);
  target_.SetRemote("a", RemoteA());
  target_.AddBdev(VolumeUuid(7));
  WaitFor([&] { return error_of(1) == StatusCode::kOk && error_of(7) == StatusCode::kOk; });
  EXPECT_EQ(Namespaces(0), std::vector<std::string>{VolumeUuid(1)});
  EXPECT_EQ(Namespaces(1).size(), 2u);
}

TEST_F(RemoteVolumeTest, AWatchedVolumeThatIsMissingForTooLongIsDetached) {
  options_.watch_period = std::chrono::milliseconds(2);
  options_.volume_cleanup_period = std::chrono::milliseconds(50);
  options_.detach_gone_volumes = true;
  Crash();
  Open();
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  FakeRemote without = RemoteA();
  without.subsystems[kRemoteNqn] = {VolumeUuid(2)};
  const auto lost = std::chrono::steady_clock::now();
  target_.SetRemote("a", without);
  WaitFor([this] { return core_->record().volume_count() == 0; });
  EXPECT_GE(std::chrono::steady_clock::now() - lost, options_.volume_cleanup_period);
  WaitFor([this] { return Services().empty(); });
}

// Defect 25: the agent waits as long as configured, and uses new addresses given for a known
// volume.
TEST_F(RemoteVolumeTest, Defect25_AVolumeIsWaitedForAsLongAsConfigured) {
  FakeRemote slow = RemoteA();
  slow.up = false;
  target_.SetRemote("a", slow);
  std::thread later([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    target_.SetRemote("a", RemoteA());
  });
  EXPECT_TRUE(Send(Discovered(1, {"8009"})).ok());
  later.join();
}

TEST_F(RemoteVolumeTest, Defect25_NewAddressesOfAKnownVolumeAreUsed) {
  target_.SetRemote("b", {.ports = {"9009"}, .subsystems = {{kRemoteNqn, {VolumeUuid(1)}}}});
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  ASSERT_TRUE(Send(Discovered(1, {"9009"})).ok());
  EXPECT_EQ(Services().size(), 2);
  target_.Restart();
  WaitFor([this] { return Namespaces(0).size() == 1 && Services().size() == 2; });
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_TRUE(Services().empty());
}

TEST_F(RemoteVolumeTest, Defect25_NewAddressesOfAFailedCallAreReleased) {
  target_.SetRemote("b", {.ports = {"9009"}, .subsystems = {{kRemoteNqn, {VolumeUuid(1)}}}});
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  const std::string before = target_.Dump();
  AttachVolumeRequest wrong = Discovered(1, {"9009"});
  wrong.mutable_volume()->mutable_nvmf()->set_subnqn("nqn.2016-06.io.spdk:other");
  EXPECT_EQ(Send(wrong).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(target_.Dump(), before);
}

// Defect 27: a port may be missing, and a host may be given by name.
TEST_F(RemoteVolumeTest, Defect27_MissingPartsAndHostNames) {
  AttachVolumeRequest request = Discovered(1, {""});
  auto* endpoint =
      request.mutable_volume()->mutable_nvmf()->mutable_discovery()->mutable_discovery_endpoints(0);
  endpoint->clear_trtype();
  ASSERT_TRUE(Send(request).ok());
  EXPECT_EQ(Services()[0]["trid"]["trsvcid"], "8009");
  EXPECT_EQ(Send(Discovered(2, {"x"})).code(), StatusCode::kInvalidArgument);
  endpoint->set_traddr("no such host");
  EXPECT_EQ(Send(request).code(), StatusCode::kInvalidArgument);
}

// Defect 30: a call that waits for one service does not delay other calls.
TEST_F(RemoteVolumeTest, Defect30_ASlowServiceBlocksNobody) {
  options_.volumes.discovery_timeout = std::chrono::seconds(20);
  Crash();
  Open();
  target_.AddBdev(VolumeUuid(7));
  std::atomic<bool> done = false;
  std::thread slow([&] {
    EXPECT_TRUE(Send(Discovered(9, {"8009"}, 1)).ok());
    done = true;
  });
  WaitFor([this] { return !Services().empty(); });
  EXPECT_TRUE(Send(Discovered(1, {"8009"})).ok());
  EXPECT_TRUE(Attach(Handle(0), 7).ok());
  EXPECT_FALSE(done);
  FakeRemote more = RemoteA();
  more.subsystems[kRemoteNqn].push_back(VolumeUuid(9));
  target_.SetRemote("a", more);
  slow.join();
}

TEST_F(RemoteVolumeTest, ManyCallersAtOneService) {
  constexpr int kCallers = 32;
  constexpr int kVolumes = 200;
  constexpr int kDevices = 8;  // with up to 32 volumes each
  for (int i = 2; i < kDevices; ++i) ASSERT_TRUE(Create(i).ok());
  empty_ = target_.Dump();
  FakeRemote many = RemoteA();
  for (int i = 0; i < kVolumes; ++i) many.subsystems[kRemoteNqn].push_back(VolumeUuid(100 + i));
  target_.SetRemote("a", many);
  target_.SetRoundTrip(std::chrono::milliseconds(2));
  target_.ResetCounts();
  auto in_parallel = [](auto work) {
    std::vector<std::thread> threads;
    std::atomic<int> next = 0;
    for (int i = 0; i < kCallers; ++i) {
      threads.emplace_back([&] {
        for (int volume = next++; volume < kVolumes; volume = next++) work(volume);
      });
    }
    for (std::thread& thread : threads) thread.join();
  };
  // Every tenth call is for a volume that does not exist anywhere; one of those also names a dead
  // address.
  auto is_lost = [](int i) { return i % 10 == 3; };
  auto request = [&](int i) {
    std::vector<std::string> ports{"8009"};
    if (i == 3) ports.push_back("1");
    return Discovered(is_lost(i) ? 1000 + i : 100 + i, ports, i % kDevices);
  };
  in_parallel([&](int i) {
    EXPECT_EQ(Send(request(i)).code(), is_lost(i) ? StatusCode::kNotFound : StatusCode::kOk);
  });
  EXPECT_EQ(CountCalls("bdev_nvme_start_discovery"), 2);
  EXPECT_EQ(CountCalls("bdev_nvme_get_discovery_info"), 0);
  EXPECT_EQ(Services().size(), 1);
  size_t attached = 0;
  for (int i = 0; i < kDevices; ++i) attached += Namespaces(i).size();
  EXPECT_EQ(attached, static_cast<size_t>(kVolumes * 9 / 10));
  EXPECT_EQ(core_->record().volume_count(), attached);
  in_parallel([&](int i) { EXPECT_TRUE(Detach(Handle(i % kDevices), 100 + i).ok()); });
  EXPECT_EQ(CountCalls("bdev_nvme_stop_discovery"), 2);
  target_.SetRemote("a", RemoteA());
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(RemoteVolumeTest, DirectConnectionsAreSharedAndHavePaths) {
  ASSERT_TRUE(Send(Direct(1, {"4430"})).ok());
  ASSERT_TRUE(Send(Direct(2, {"4430", "4431", "1"})).ok());
  EXPECT_EQ(Controllers().size(), 1);
  EXPECT_EQ(Controllers()[0]["ctrlrs"].size(), 2);
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_EQ(Controllers().size(), 1);
  Crash();
  Open();
  ASSERT_TRUE(Detach(Handle(0), 2).ok());
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(RemoteVolumeTest, IscsiIsRecreatedWithItsSecret) {
  AttachVolumeRequest request = Request(0, 1);
  iscsi::VolumeConnectionParameters& unit = *request.mutable_volume()->mutable_iscsi();
  unit.set_portal("127.0.0.1");
  unit.set_target_iqn("iqn.2024-01.com.example:disks");
  unit.set_lun(3);
  unit.set_initiator_iqn("iqn.2024-01.com.example:agent");
  unit.mutable_chap()->set_user("user");
  unit.mutable_chap()->set_secret("secretsecret");
  EXPECT_EQ(Send(request).code(), StatusCode::kNotFound);
  EXPECT_EQ(target_.Dump(), empty_);
  target_.AddIscsiUnit("iscsi://user%secretsecret@127.0.0.1:3260/iqn.2024-01.com.example:disks/3");
  ASSERT_TRUE(Send(request).ok());
  EXPECT_EQ(Namespaces(0), std::vector<std::string>{VolumeUuid(1)});
  const record::Volume row = *core_->record().FindVolume(*base::Uuid::Parse(VolumeUuid(1)));
  EXPECT_EQ(row.params.SerializeAsString().find("secretsecret"), std::string::npos);
  target_.Restart();
  WaitFor([this] { return Namespaces(0).size() == 1; });
  ASSERT_TRUE(Send(request).ok());
  unit.set_lun(4);
  EXPECT_EQ(Send(request).code(), StatusCode::kInvalidArgument);
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_FALSE(target_.Operator("bdev_get_bdevs", {{"name", VolumeUuid(1)}}).ok());
}

TEST_F(RemoteVolumeTest, RecordAndTargetAgreeAfterAnyFault) {
  ASSERT_TRUE(Send(Discovered(4, {"8009"}, 1)).ok());
  const std::string before = target_.Dump();
  for (Fault fault : {Fault::kRefuse, Fault::kNotSent, Fault::kDropCall, Fault::kLoseAnswer}) {
    for (uint64_t at = 0; at < 6; ++at) {
      for (const AttachVolumeRequest& request :
           {Discovered(1, {"8009", "4430"}), Direct(1, {"4430", "4431"})}) {
        target_.ResetCounts();
        target_.SetFaultPlan([fault, at](uint64_t index, const jsonrpc::Request&) {
          return index == at ? fault : Fault::kNone;
        });
        absl::Status status = Send(request);
        target_.SetFaultPlan(nullptr);
        if (status.ok()) {
          while (!Detach(Handle(0), 1).ok()) {
          }
        }
        WaitFor([&] { return core_->record().volume_count() == 1 && target_.Dump() == before; });
      }
    }
  }
}

}  // namespace
}  // namespace sma::core
