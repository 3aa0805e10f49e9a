// SPDX-License-Identifier: Apache-2.0

// Tests, with the whole agent, which connections are kept and which are released: a connection is
// kept while a volume depends on it, even if the volume was attached through another one. The
// storage node "n" has two addresses and lists everything at both; its discovery services do not
// refer to each other.

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/core/testing/remote_fixture.h"

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

  // Volumes 11 and 12 are in different subsystems.
  static FakeRemote Node() {
    return {.ports = {"5001", "5002"},
            .subsystems = {{kNqnA, {VolumeUuid(11)}}, {kNqnB, {VolumeUuid(12)}}},
            .refers = false};
  }

  // Returns the request to attach volume 10 + `device` to `device`. The host NQN is always the
  // same, so that the target treats their paths as one.
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
  // Returns all pairs of ways to attach the two volumes in which they share objects on the target.
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

  /// For each of `ways`, removes what `first` created. `second` must remain unchanged, and nothing
  /// may be left at the end.
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

// After a restart of the target, the volumes may depend on other connections than before.
TEST_F(RemoteConnectionsTest, Defect34_AfterARestartOfTheTargetAsWell) {
  for (const Ways& ways : AllWays()) {
    EachEnding(ways, [&] {
      target_.Restart();
      WaitFor([&] { return Namespaces(0).size() == 1 && Namespaces(1).size() == 1; });
      ASSERT_TRUE(Detach(Handle(DeviceOf(ways.first)), VolumeOf(ways.first)).ok());
    });
  }
}

// The failing call started the connection on which the other volume then depends.
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

// A volume that needs no connection of its own may still depend on one.
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

// Two agents that share a target use different names, so neither mistakes the other's connection
// for its own.
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

// How an operator uses the bdev of volume 2, which belongs to a connection of the agent.
enum class OtherUse { kNamespace, kVhost, kLayer };

class OtherUseTest : public RemoteFixture,
                     public testing::WithParamInterface<std::tuple<OtherUse, bool>> {
 protected:
  static OtherUse Use() { return std::get<0>(GetParam()); }
  static AttachVolumeRequest Way() {
    return std::get<1>(GetParam()) ? Direct(1, {"4430"}) : Discovered(1, {"8009"});
  }
  void BeginUse() {
    const std::string bdev = VolumeUuid(2);
    if (Use() == OtherUse::kVhost) {
      Operator("vhost_create_blk_controller", {{"ctrlr", "operators"}, {"dev_name", bdev}});
    } else if (Use() == OtherUse::kLayer) {
      Operator("accel_crypto_key_create",
               {{"cipher", "AES_XTS"}, {"key", Key('1')}, {"key2", Key('2')}, {"name", "key"}});
      Operator("bdev_crypto_create",
               {{"base_bdev_name", BdevOf(2)}, {"name", "operators"}, {"key_name", "key"}});
    } else {
      Operator("nvmf_create_subsystem", {{"nqn", kOperators}, {"serial_number", "1"}});
      Operator("nvmf_subsystem_add_ns",
               {{"nqn", kOperators}, {"namespace", {{"bdev_name", bdev}}}});
    }
  }
  void EndUse() {
    if (Use() == OtherUse::kVhost) {
      Operator("vhost_delete_controller", {{"ctrlr", "operators"}});
    } else if (Use() == OtherUse::kLayer) {
      Operator("bdev_crypto_delete", {{"name", "operators"}});
      Operator("accel_crypto_key_destroy", {{"key_name", "key"}});
    } else {
      Operator("nvmf_delete_subsystem", {{"nqn", kOperators}});
    }
  }
  std::string BdevOf(int volume) {
    return (*target_.Operator("bdev_get_bdevs", {{"name", VolumeUuid(volume)}}))[0]["name"];
  }
  static std::string Key(char digit) { return std::string(32, digit); }

  static constexpr char kOperators[] = "nqn.2016-06.io.spdk:operators";
};

// The agent created the connection, but does not cut off what others have put on it.
TEST_P(OtherUseTest, KeepsTheConnectionUntilItEnds) {
  options_.watch_period = std::chrono::milliseconds(5);
  Crash();
  Open();
  for (bool deletes : {false, true}) {
    ASSERT_TRUE(Send(Way()).ok());
    BeginUse();
    const Json used = *target_.Operator("bdev_get_bdevs", {{"name", VolumeUuid(2)}});
    ASSERT_TRUE((deletes ? Delete(Handle(0)) : Detach(Handle(0), 1)).ok());
    EXPECT_EQ(*target_.Operator("bdev_get_bdevs", {{"name", VolumeUuid(2)}}), used);
    EXPECT_EQ(core_->record().volume_count(), 0);
    EXPECT_EQ(Controllers().size(), 1);
    EndUse();
    WaitFor([this] { return Controllers().empty() && Services().empty(); });
    ASSERT_TRUE(Create(0).ok());
  }
}

// A volume that is attached while the connection is kept for others takes it over.
TEST_P(OtherUseTest, ItsConnectionIsUsedByTheNextVolume) {
  ASSERT_TRUE(Send(Way()).ok());
  BeginUse();
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  ASSERT_TRUE(Send(Way()).ok());
  EndUse();
  EXPECT_EQ(Namespaces(0), std::vector<std::string>{VolumeUuid(1)});
  Crash();
  Open();
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_TRUE(Controllers().empty()) << Controllers().dump(1);
  EXPECT_TRUE(Services().empty()) << Services().dump(1);
}

// The queries are sent with the one for the controller: the release of a connection that nobody
// else uses takes as many round trips as it would without them.
TEST_P(OtherUseTest, IsFoundWithoutAnAdditionalRoundTrip) {
  ASSERT_TRUE(Send(Way()).ok());
  ASSERT_TRUE(core_->agent().AttachVolume(context_, Way()).ok());
  target_.ResetCounts();
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  const uint64_t removal = 2;  // the query, and the removal of the namespace
  const uint64_t release = 2;  // the query, and the end of the connection
  const bool is_direct = std::get<1>(GetParam());
  EXPECT_LE(target_.round_trips(), removal + release + (is_direct ? 0 : 1));
}

// Its NSID is known from the target's event.
TEST_P(OtherUseTest, IsFoundAtAHighNsid) {
  options_.watch_period = std::chrono::milliseconds(5);
  Crash();
  Open();
  FakeRemote node = RemoteA();
  std::vector<std::string>& uuids = node.subsystems.at(kRemoteNqn);
  while (uuids.size() < 60) uuids.push_back(VolumeUuid(100 + static_cast<int>(uuids.size())));
  std::swap(uuids[1], uuids[59]);
  target_.SetRemote("a", node);
  ASSERT_TRUE(Send(Way()).ok());
  BeginUse();
  target_.ResetCounts();
  WaitFor([this] { return CountCalls("notify_get_notifications") >= 2; });
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_EQ(Controllers().size(), 1);
}

std::string NameOfUse(const testing::TestParamInfo<std::tuple<OtherUse, bool>>& tested) {
  static constexpr const char* kNames[] = {"Namespace", "Vhost", "Layer"};
  const auto& [use, is_direct] = tested.param;
  return std::string(kNames[static_cast<int>(use)]) + (is_direct ? "Direct" : "Discovery");
}

INSTANTIATE_TEST_SUITE_P(Ways, OtherUseTest,
                         testing::Combine(testing::Values(OtherUse::kNamespace, OtherUse::kVhost,
                                                          OtherUse::kLayer),
                                          testing::Bool()),
                         NameOfUse);

// The service lists the volume and attaches nothing, since another service, which no longer exists,
// had attached it.
TEST_F(RemoteConnectionsTest, Defect34_AServiceThatSkippedTheVolumeIsRestarted) {
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

// The volume was found through an operator's service, so that the agent's own connection has
// skipped it. When the service is stopped, it has to be connected anew.
TEST_F(RemoteConnectionsTest, AConnectionThatSkippedTheVolumeIsConnectedAnew) {
  options_.drift_period = std::chrono::milliseconds(20);
  options_.watch_period = std::chrono::milliseconds(5);
  Crash();
  Open();
  Operator("bdev_nvme_start_discovery", {{"name", "operators"},
                                         {"trtype", "tcp"},
                                         {"adrfam", "ipv4"},
                                         {"traddr", "127.0.0.1"},
                                         {"trsvcid", "5001"}});
  ASSERT_TRUE(Send(Way(1, "5001", true)).ok());
  EXPECT_EQ(Controllers().size(), 3);
  Operator("bdev_nvme_stop_discovery", {{"name", "operators"}});
  WaitFor([this] { return Namespaces(1).size() == 1; });
  EXPECT_EQ(Controllers().size(), 1);
  ASSERT_TRUE(Detach(Handle(1), 12).ok());
  EXPECT_TRUE(Controllers().empty());
}

// The agent dies at each step of a call that adds another address.
TEST_F(RemoteConnectionsTest, Defect40_AnEndpointThatWasBeingAddedIsNotLost) {
  for (const char* port : {"9009", "5002"}) {
    for (uint64_t at = 0; at < 8; ++at) {
      target_.SetRemote("b", {.ports = {"9009"}, .subsystems = {{kNqnA, {VolumeUuid(11)}}}});
      ASSERT_TRUE(Send(Way(0, "5001", false)).ok());
      target_.ResetCounts();
      // From this step on, nothing that the agent does has any effect.
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
  // iSCSI names are case-insensitive.
  AttachVolumeRequest other_case = unit(1, 12, "127.0.0.1");
  other_case.mutable_volume()->mutable_iscsi()->set_target_iqn("iqn.2024-01.com.Example:Disks");
  EXPECT_EQ(Send(other_case).code(), StatusCode::kAlreadyExists);
  other_case.set_device_handle(Handle(0));
  other_case.mutable_volume()->set_volume_id(Id(11));
  EXPECT_TRUE(Send(other_case).ok());
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

// The first service does not answer, so the second one is started. Once both answer, one may be
// stopped, but never the one on which the volume depends.
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

TEST_F(RemoteConnectionsTest, Defect43_NothingIsDecidedOnAnIncompleteDescription) {
  for (bool direct : {false, true}) {
    AttachVolumeRequest request = Way(0, "5001", direct);
    request.mutable_volume()->mutable_nvmf()->set_subnqn(kNqnA);
    target_.SetIncompleteDescriptions(3);
    EXPECT_TRUE(Send(request).ok());
    ASSERT_TRUE(Detach(Handle(0), 11).ok());
    EXPECT_TRUE(Services().empty());
    EXPECT_TRUE(Controllers().empty());
  }
  // A description that stays incomplete does not prove that the volume is in another subsystem.
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
