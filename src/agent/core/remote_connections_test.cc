// Which connections stay and which go, through the whole agent: what a volume hangs on decides, not
// what it was attached through. A storage node "n" has two addresses and lists everything at both;
// its discovery services do not refer to each other.

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/core/remote_fixture.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using jsonrpc::Json;
using spdk::FakeRemote;
using spdk::Fault;

constexpr char kNqnA[] = "nqn.2016-06.io.spdk:a";
constexpr char kNqnB[] = "nqn.2016-06.io.spdk:b";

class RemoteConnectionsTest : public RemoteFixture {
 protected:
  void SetUp() override {
    RemoteFixture::SetUp();
    target_.SetRemote("n", Node());
  }

  // Volume 11 is in one subsystem, 12 in another.
  static FakeRemote Node() {
    return {.ports = {"5001", "5002"},
            .subsystems = {{kNqnA, {VolumeUuid(11)}}, {kNqnB, {VolumeUuid(12)}}},
            .refers = false};
  }

  // Volume 10 + `device`, attached to `device`; the host NQN is the same for all, so that the
  // target takes their paths for one.
  static AttachVolumeRequest Way(int device, const std::string& port, bool direct) {
    AttachVolumeRequest request = Discovered(11 + device, {port}, device);
    nvmf::VolumeConnectionParameters& nvmf = *request.mutable_volume()->mutable_nvmf();
    nvmf.set_hostnqn("nqn.2014-08.org.nvmexpress:host");
    if (direct) {
      nvmf.set_subnqn(device == 0 ? kNqnA : kNqnB);
      *nvmf.mutable_direct()->add_addresses() = Address(port);
    }
    return request;
  }

  struct Ways {
    AttachVolumeRequest first;
    AttachVolumeRequest second;
  };
  // All pairs of ways in which the two volumes can be attached that share something on the target.
  static std::vector<Ways> AllWays() {
    std::vector<Ways> all;
    for (bool first_direct : {false, true}) {
      for (bool second_direct : {false, true}) {
        for (const char* port : {"5001", "5002"}) {
          all.push_back({Way(0, "5001", first_direct), Way(1, port, second_direct)});
          all.push_back({Way(1, "5001", second_direct), Way(0, port, first_direct)});
        }
      }
    }
    return all;
  }

  static int DeviceOf(const AttachVolumeRequest& request) {
    return request.device_handle() == Handle(0) ? 0 : 1;
  }
  static int VolumeOf(const AttachVolumeRequest& request) { return 11 + DeviceOf(request); }

  /// Ends what `first` made in each way; `second` is as it was, and in the end nothing is left.
  void EachEnding(const Ways& ways, const std::function<void()>& end_first) {
    ASSERT_TRUE(Send(ways.first).ok());
    ASSERT_TRUE(Send(ways.second).ok());
    const int device = DeviceOf(ways.second);
    end_first();
    EXPECT_EQ(Namespaces(device), std::vector<std::string>{VolumeUuid(VolumeOf(ways.second))})
        << ways.first.ShortDebugString() << " | " << ways.second.ShortDebugString();
    ASSERT_TRUE(Detach(Handle(device), VolumeOf(ways.second)).ok());
    EXPECT_TRUE(Services().empty()) << Services().dump(1);
    EXPECT_TRUE(Controllers().empty()) << Controllers().dump(1);
  }
};

TEST_F(RemoteConnectionsTest, Defect34_DetachingOneVolumeLeavesTheOthers) {
  for (const Ways& ways : AllWays()) {
    EachEnding(ways, [&] {
      ASSERT_TRUE(Detach(Handle(DeviceOf(ways.first)), VolumeOf(ways.first)).ok());
    });
  }
}

TEST_F(RemoteConnectionsTest, Defect34_DeletingOneDeviceLeavesTheOthers) {
  for (const Ways& ways : AllWays()) {
    EachEnding(ways, [&] {
      const int device = DeviceOf(ways.first);
      ASSERT_TRUE(Delete(Handle(device)).ok());
      ASSERT_TRUE(Create(device).ok());
    });
  }
}

TEST_F(RemoteConnectionsTest, Defect34_AfterARestartOfTheAgentAsWell) {
  for (const Ways& ways : AllWays()) {
    EachEnding(ways, [&] {
      Crash();
      Open();
      ASSERT_TRUE(Detach(Handle(DeviceOf(ways.first)), VolumeOf(ways.first)).ok());
      Crash();
      Open();
    });
  }
}

// After a restart the volumes may hang on other connections than before.
TEST_F(RemoteConnectionsTest, Defect34_AfterARestartOfTheTargetAsWell) {
  for (const Ways& ways : AllWays()) {
    EachEnding(ways, [&] {
      target_.Restart();
      WaitFor([&] { return Namespaces(0).size() == 1 && Namespaces(1).size() == 1; });
      ASSERT_TRUE(Detach(Handle(DeviceOf(ways.first)), VolumeOf(ways.first)).ok());
    });
  }
}

// The call that fails has started what the other volume comes to hang on.
TEST_F(RemoteConnectionsTest, Defect34_AnAttachThatFailsLeavesTheOthers) {
  for (bool direct : {false, true}) {
    for (const char* port : {"5001", "5002"}) {
      AttachVolumeRequest lost = Way(0, "5001", false);
      lost.mutable_volume()->set_volume_id(Id(19));
      options_.volumes.discovery_timeout = std::chrono::milliseconds(500);
      Crash();
      Open();
      absl::Status status;
      std::thread failing([&] { status = Send(lost); });
      WaitFor([&] { return Services().size() == 1; });
      ASSERT_TRUE(Send(Way(1, port, direct)).ok());
      failing.join();
      EXPECT_EQ(status.code(), StatusCode::kNotFound);
      EXPECT_EQ(Namespaces(1), std::vector<std::string>{VolumeUuid(12)});
      ASSERT_TRUE(Detach(Handle(1), 12).ok());
      EXPECT_TRUE(Services().empty());
      EXPECT_TRUE(Controllers().empty());
    }
  }
}

// A volume that needs no connection of its own may hang on one all the same.
TEST_F(RemoteConnectionsTest, Defect34_ALocalVolumeMayHangOnAConnection) {
  ASSERT_TRUE(Send(Way(0, "5001", false)).ok());
  ASSERT_TRUE(Attach(Handle(1), 12).ok());
  ASSERT_TRUE(Detach(Handle(0), 11).ok());
  EXPECT_EQ(Namespaces(1), std::vector<std::string>{VolumeUuid(12)});
  Crash();
  Open();
  ASSERT_TRUE(Detach(Handle(1), 12).ok());
  EXPECT_TRUE(Services().empty());
}

// Two agents on one target give different names: neither takes the other's connection for its own.
TEST_F(RemoteConnectionsTest, Defect34_WhatAnotherAgentConnectedStays) {
  for (bool direct : {false, true}) {
    const std::string mine = direct ? "sma_" + std::string(kNqnA) : "sma_tcp_127.0.0.1_5001_";
    for (const std::string& name : {mine, mine + base::Uuid::Random().ToString() + "_"}) {
      Json params{{"name", name},      {"trtype", "tcp"},
                  {"adrfam", "ipv4"},  {"traddr", "127.0.0.1"},
                  {"trsvcid", "5001"}, {"hostnqn", "nqn.2014-08.org.nvmexpress:host"}};
      if (direct) params["subnqn"] = kNqnA;
      Operator(direct ? "bdev_nvme_attach_controller" : "bdev_nvme_start_discovery", params);
      const std::string before = target_.Dump();
      ASSERT_TRUE(Send(Way(0, "5001", direct)).ok());
      ASSERT_TRUE(Detach(Handle(0), 11).ok());
      EXPECT_EQ(target_.Dump(), before);
      Operator(direct ? "bdev_nvme_detach_controller" : "bdev_nvme_stop_discovery",
               {{"name", name}});
    }
  }
}

// The service lists the volume and attaches nothing, since another, that is gone by now, had it.
TEST_F(RemoteConnectionsTest, Defect34_AServiceThatPassedTheVolumeOverIsStartedAgain) {
  options_.drift_period = std::chrono::milliseconds(20);
  options_.watch_period = std::chrono::milliseconds(5);
  Crash();
  Open();
  Operator("bdev_nvme_start_discovery", {{"name", "operators"},
                                         {"trtype", "tcp"},
                                         {"adrfam", "ipv4"},
                                         {"traddr", "127.0.0.1"},
                                         {"trsvcid", "5001"}});
  ASSERT_TRUE(Send(Way(1, "5002", false)).ok());
  Operator("bdev_nvme_stop_discovery", {{"name", "operators"}});
  WaitFor([this] { return Namespaces(1).size() == 1; });
  ASSERT_TRUE(Detach(Handle(1), 12).ok());
  EXPECT_TRUE(Services().empty());
}

// The agent dies at each step of a call that brings another address.
TEST_F(RemoteConnectionsTest, Defect40_AnEndpointThatWasBeingAddedIsNotLost) {
  for (const char* port : {"9009", "5002"}) {
    for (uint64_t at = 0; at < 8; ++at) {
      target_.SetRemote("b", {.ports = {"9009"}, .subsystems = {{kNqnA, {VolumeUuid(11)}}}});
      ASSERT_TRUE(Send(Way(0, "5001", false)).ok());
      target_.ResetCounts();
      // Nothing that the agent does from this step on has any effect.
      std::atomic<bool> is_dead = false;
      target_.SetFaultPlan([&](uint64_t index, const jsonrpc::Request&) {
        if (index >= at) is_dead = true;
        return is_dead ? Fault::kNotSent : Fault::kNone;
      });
      disk_->fault = [&](record::Durability) {
        return is_dead ? absl::UnavailableError("dead") : absl::OkStatus();
      };
      Send(Way(0, port, false)).IgnoreError();
      Crash();
      target_.SetFaultPlan(nullptr);
      disk_->fault = nullptr;
      Open();
      ASSERT_TRUE(Detach(Handle(0), 11).ok());
      WaitFor([this] { return Services().empty() && Controllers().empty(); });
    }
  }
}

TEST_F(RemoteConnectionsTest, Defect41_OneLogicalUnitIsOneVolume) {
  auto unit = [](int device, int volume, const std::string& portal) {
    AttachVolumeRequest request = Request(device, volume);
    iscsi::VolumeConnectionParameters& params = *request.mutable_volume()->mutable_iscsi();
    params.set_portal(portal);
    params.set_target_iqn("iqn.2024-01.com.example:disks");
    params.set_lun(3);
    params.set_initiator_iqn("iqn.2024-01.com.example:agent");
    return request;
  };
  for (const char* portal : {"127.0.0.1:3260", "127.0.0.2:3260"}) {
    target_.AddIscsiUnit("iscsi://" + std::string(portal) + "/iqn.2024-01.com.example:disks/3");
  }
  ASSERT_TRUE(Send(unit(0, 11, "127.0.0.1")).ok());
  const std::string before = target_.Dump();
  EXPECT_EQ(Send(unit(1, 12, "127.0.0.1")).code(), StatusCode::kAlreadyExists);
  // Another portal of the same iSCSI target leads to the same unit.
  EXPECT_EQ(Send(unit(1, 12, "127.0.0.2")).code(), StatusCode::kAlreadyExists);
  CreateDeviceRequest create = CreateRequest(5);
  *create.mutable_volume() = unit(5, 12, "127.0.0.1").volume();
  EXPECT_EQ(Create(create).code(), StatusCode::kAlreadyExists);
  Crash();
  Open();
  EXPECT_EQ(Send(unit(1, 12, "127.0.0.1")).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(core_->record().volume_count(), 1u);
  ASSERT_TRUE(Send(unit(0, 11, "127.0.0.1")).ok());
  ASSERT_TRUE(Detach(Handle(0), 11).ok());
  EXPECT_TRUE(Send(unit(1, 12, "127.0.0.2")).ok());
}

TEST_F(RemoteConnectionsTest, Defect42_EndpointsThatReferToEachOtherAreOneService) {
  FakeRemote node = Node();
  node.refers = true;
  target_.SetRemote("n", node);
  for (const std::vector<std::string>& ports :
       {std::vector<std::string>{"5001", "5002"}, std::vector<std::string>{"5002", "5001"}}) {
    target_.SetDiscoveryPending(true);
    std::thread attach([&] { EXPECT_TRUE(Send(Discovered(11, ports)).ok()); });
    WaitFor([this] { return !Services().empty(); });
    target_.SetDiscoveryPending(false);
    attach.join();
    EXPECT_EQ(Services().size(), 1u);
    ASSERT_TRUE(Detach(Handle(0), 11).ok());
    EXPECT_TRUE(Services().empty());
  }
}

// The first does not answer, so the second is started; when both do, either may go, but never the
// one that the volume hangs on.
TEST_F(RemoteConnectionsTest, Defect42_TheServiceThatTheVolumeHangsOnStays) {
  FakeRemote one{.ports = {"5001"}, .subsystems = {{kNqnA, {VolumeUuid(11)}}}, .up = false};
  target_.SetRemote("n", one);
  target_.SetRemote("m", {.ports = {"5002"}, .subsystems = {{kNqnA, {VolumeUuid(11)}}}});
  options_.volumes.discovery_timeout = std::chrono::seconds(5);
  options_.drift_period = std::chrono::milliseconds(5);
  Crash();
  Open();
  ASSERT_TRUE(Send(Discovered(11, {"5001", "5002"})).ok());
  FakeRemote both = Node();
  both.refers = true;
  target_.SetRemote("m", {.ports = {}, .subsystems = {}});
  target_.SetRemote("n", both);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Send(Discovered(11, {"5001", "5002"})).ok());
    ASSERT_EQ(Namespaces(0), std::vector<std::string>{VolumeUuid(11)});
  }
  ASSERT_TRUE(Detach(Handle(0), 11).ok());
  EXPECT_TRUE(Services().empty());
}

TEST_F(RemoteConnectionsTest, Defect43_NothingIsDecidedOnADescriptionThatIsNotComplete) {
  for (bool direct : {false, true}) {
    AttachVolumeRequest request = Way(0, "5001", direct);
    request.mutable_volume()->mutable_nvmf()->set_subnqn(kNqnA);
    target_.SetIncompleteDescriptions(3);
    EXPECT_TRUE(Send(request).ok());
    ASSERT_TRUE(Detach(Handle(0), 11).ok());
    EXPECT_TRUE(Services().empty());
    EXPECT_TRUE(Controllers().empty());
  }
  // One that stays incomplete is no proof of another subsystem.
  AttachVolumeRequest request = Way(0, "5001", false);
  request.mutable_volume()->mutable_nvmf()->set_subnqn(kNqnA);
  target_.SetIncompleteDescriptions(1000000);
  EXPECT_EQ(Send(request).code(), StatusCode::kNotFound);
  target_.SetIncompleteDescriptions(0);
  EXPECT_TRUE(Services().empty());
  request.mutable_volume()->mutable_nvmf()->set_subnqn(kNqnB);
  EXPECT_EQ(Send(request).code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sma::core
