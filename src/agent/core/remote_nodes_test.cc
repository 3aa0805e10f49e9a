// SPDX-License-Identifier: Apache-2.0

// Tests, with the whole agent, storage nodes that hang, refuse connections or die: calls for other
// volumes do not wait for them, and the reported reasons are correct.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/core/testing/remote_fixture.h"
#include "agent/probe/testing/login_portal.h"
#include "agent/volume/remote_nodes.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using spdk::FakeRemote;
using spdk::Fault;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr char kPortal[] = "127.0.0.1:3260";

std::string NodeNqn(int number) { return "nqn.2016-06.io.spdk:node" + std::to_string(number); }

class RemoteNodesTest : public RemoteFixture {
 protected:
  // Returns a node with subsystems 0 to `count` - 1 at one address, with one volume each, numbered
  // from 100.
  static FakeRemote Node(int count, bool hangs) {
    FakeRemote node{.ports = {"6001"}, .subsystems = {}, .hangs = hangs};
    for (int i = 0; i < count; ++i) node.subsystems[NodeNqn(i)] = {VolumeUuid(100 + i)};
    return node;
  }
  static AttachVolumeRequest OfNode(int number, int device = 0) {
    AttachVolumeRequest request = Request(device, 100 + number);
    nvmf::VolumeConnectionParameters& nvmf = *request.mutable_volume()->mutable_nvmf();
    nvmf.set_subnqn(NodeNqn(number));
    *nvmf.mutable_direct()->add_addresses() = Address("6001");
    return request;
  }
  static AttachVolumeRequest Unit(int volume, int device = 0) {
    AttachVolumeRequest request = Request(device, volume);
    iscsi::VolumeConnectionParameters& params = *request.mutable_volume()->mutable_iscsi();
    params.set_portal(kPortal);
    params.set_target_iqn("iqn.2024-01.com.example:disks");
    params.set_lun(static_cast<uint32_t>(volume));
    params.set_initiator_iqn("iqn.2024-01.com.example:agent");
    return request;
  }
  void AddUnit(int volume) {
    target_.AddIscsiUnit("iscsi://" + std::string(kPortal) + "/iqn.2024-01.com.example:disks/" +
                         std::to_string(volume));
  }
  record::LastError ErrorOf(int volume) {
    auto row = core_->record().FindVolume(*base::Uuid::Parse(VolumeUuid(volume)));
    return row ? row->last_error : record::LastError();
  }

  template <typename Work>
  static steady_clock::duration TimeOf(Work work) {
    const auto start = steady_clock::now();
    work();
    return steady_clock::now() - start;
  }
};

// The target keeps the bdev of a unit whose portal has died. The agent finds out, and reports it.
TEST_F(RemoteNodesTest, ADeadPortalIsReported) {
  options_.watch_period = milliseconds(5);
  options_.portal_check_period = milliseconds(20);
  Crash();
  Open();
  auto portal = std::make_unique<probe::LoginPortal>(/*status=*/0);
  const uint16_t port = portal->port();
  const std::string address = portal->portal();
  target_.AddIscsiUnit("iscsi://" + address + "/iqn.2024-01.com.example:disks/7");
  AttachVolumeRequest request = Unit(7);
  request.mutable_volume()->mutable_iscsi()->set_portal(address);
  ASSERT_TRUE(Send(request).ok());
  auto volume = [this] {
    admin::v1::GetVolumeRequest query;
    query.set_volume_id(Id(7));
    return *core_->admin().GetVolume(context_, query);
  };
  auto paths = [&]() -> std::string {
    const admin::v1::Volume shown = volume();
    for (const admin::v1::Condition& condition : shown.conditions()) {
      if (condition.type() == "PathsUp") return condition.reason() + " " + condition.message();
    }
    return "";
  };
  WaitFor([&] { return paths() == "Connected 1 of 1"; });
  EXPECT_EQ(volume().state(), admin::v1::STATE_READY);
  portal.reset();
  WaitFor([&] { return paths() == "AllDown 0 of 1"; });
  EXPECT_EQ(volume().state(), admin::v1::STATE_DEGRADED);
  std::string why;
  const admin::v1::Volume cut_off = volume();
  for (const admin::v1::Condition& condition : cut_off.conditions()) {
    if (condition.type() == "Attached") why = condition.message();
  }
  EXPECT_EQ(why, "portal " + address + " does not answer");
  EXPECT_EQ(core_->CountConditions().paths.up, 0u);
  probe::LoginPortal again(/*status=*/0, port);
  WaitFor([&] { return paths() == "Connected 1 of 1"; });
  EXPECT_EQ(volume().state(), admin::v1::STATE_READY);
  Crash();
}

TEST_F(RemoteNodesTest, CallsThatConcernOnlyTheTargetAreLocal) {
  target_.SetRemote("n", Node(1, /*hangs=*/false));
  ASSERT_TRUE(Send(OfNode(0)).ok());
  const api::Agent& agent = core_->agent();
  // Device 0 has a volume of a node, for whose removal a call may wait; device 1 has none.
  EXPECT_FALSE(agent.NeighbourOf(Request(0, 8)).is_local);
  EXPECT_TRUE(agent.NeighbourOf(Request(1, 8)).is_local);
  EXPECT_NE(agent.NeighbourOf(Request(0, 8)).name, agent.NeighbourOf(Request(1, 8)).name);
  EXPECT_TRUE(agent.NeighbourOf(CreateRequest(1)).is_local);
  EXPECT_FALSE(agent.NeighbourOf(OfNode(1, 1)).is_local);
  DeleteDeviceRequest removal;
  removal.set_handle(Handle(0));
  EXPECT_EQ(agent.NeighbourOf(removal).name, "node 127.0.0.1 6001");
  EXPECT_FALSE(agent.NeighbourOf(removal).is_local);
  removal.set_handle(Handle(1));
  EXPECT_TRUE(agent.NeighbourOf(removal).is_local);
}

// Tests both the start of the agent and a restart of the target.
TEST_F(RemoteNodesTest, Defect46_ANodeThatHangsDelaysNobody) {
  constexpr int kVolumes = 30;
  options_.volumes.discovery_timeout = seconds(10);
  options_.watch_period = milliseconds(20);
  Crash();
  Open();
  target_.SetRemote("n", Node(kVolumes, /*hangs=*/false));
  for (int i = 0; i < kVolumes; ++i) ASSERT_TRUE(Send(OfNode(i, i % 2)).ok());
  AddUnit(7);
  ASSERT_TRUE(Send(Unit(7)).ok());
  target_.AddBdev(VolumeUuid(8));
  ASSERT_TRUE(Attach(Handle(0), 8).ok());

  target_.SetRemote("n", Node(kVolumes, /*hangs=*/true));
  target_.SetPortalHangs(kPortal, true);
  const auto of_target = TimeOf([&] {
    target_.Restart();
    target_.AddBdev(VolumeUuid(8));
    WaitFor([&] { return serving_ && Namespaces(0) == std::vector<std::string>{VolumeUuid(8)}; });
  });
  EXPECT_LT(of_target, seconds(3));
  const auto of_agent = TimeOf([&] {
    Crash();
    Open();
  });
  EXPECT_LT(of_agent, seconds(3));
  // Calls are answered for local volumes as well as for volumes of the node.
  target_.AddBdev(VolumeUuid(9));
  EXPECT_LT(TimeOf([&] { EXPECT_TRUE(Attach(Handle(0), 9).ok()); }), seconds(1));
  EXPECT_LT(TimeOf([&] { EXPECT_TRUE(Detach(Handle(0), 100).ok()); }), seconds(2));
  // Until then the errors may be those of the agent's end.
  auto has_error = [&](int volume, const std::string& about) {
    return ErrorOf(volume).code == StatusCode::kUnavailable &&
           ErrorOf(volume).message.find(about) != std::string::npos;
  };
  WaitFor([&] { return has_error(101, "127.0.0.1 port 6001") && has_error(7, kPortal); });
  // The next comparison completes the work that the previous agent left unfinished.
  WaitFor([&] { return ErrorOf(8).code == StatusCode::kOk; });
}

TEST_F(RemoteNodesTest, Defect46_ANodeThatAnswersAgainIsReconnected) {
  options_.watch_period = milliseconds(5);
  Crash();
  Open();
  constexpr int kVolumes = 20;
  target_.SetRemote("n", Node(kVolumes, /*hangs=*/false));
  for (int i = 0; i < kVolumes; ++i) ASSERT_TRUE(Send(OfNode(i, i % 2)).ok());
  AddUnit(7);
  ASSERT_TRUE(Send(Unit(7)).ok());
  FakeRemote down = Node(kVolumes, /*hangs=*/false);
  down.up = false;
  target_.SetRemote("n", down);
  target_.Restart();
  WaitFor([&] { return Namespaces(0) == std::vector<std::string>{VolumeUuid(7)}; });
  WaitFor([&] { return ErrorOf(100).code == StatusCode::kUnavailable; });
  target_.SetRemote("n", Node(kVolumes, /*hangs=*/false));
  WaitFor([&] { return Namespaces(0).size() == kVolumes / 2 + 1; });
  WaitFor([&] { return Namespaces(1).size() == kVolumes / 2; });
  WaitFor([&] { return ErrorOf(100).code == StatusCode::kOk; });
}

// The first call waits for its attempt; the following calls fail at once, with the reason.
TEST_F(RemoteNodesTest, Defect46_CallsForANodeThatDidNotAnswerFailAtOnce) {
  options_.volumes.discovery_timeout = milliseconds(1200);
  Crash();
  Open();
  target_.SetRemote("n", Node(2, /*hangs=*/true));
  target_.SetPortalHangs(kPortal, true);
  AddUnit(7);
  AddUnit(8);
  for (const auto& [first, second] :
       {std::pair(OfNode(0), OfNode(1)), std::pair(Unit(7), Unit(8))}) {
    absl::Status status = Send(first);
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    EXPECT_NE(status.message().find("it does not answer"), std::string::npos) << status;
    EXPECT_LT(TimeOf([&] { status = Send(second); }), milliseconds(200));
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    EXPECT_NE(status.message().find("has not answered for"), std::string::npos) << status;
  }
  target_.SetRemote("n", Node(2, /*hangs=*/false));
  WaitFor([&] { return Send(OfNode(0)).ok(); });
}

// The number of round trips of a comparison, and its duration, do not grow with the number of
// volumes of a node that is down.
TEST_F(RemoteNodesTest, Defect46_AThousandVolumesOfADeadNode) {
  constexpr int kVolumes = 1000;
  constexpr int kDevices = 40;
  options_.watch_period = milliseconds(20);
  Crash();
  Open();
  for (int i = 2; i < kDevices; ++i) ASSERT_TRUE(Create(i).ok());
  ASSERT_TRUE(Create(100).ok());
  target_.AddBdev(VolumeUuid(8));
  ASSERT_TRUE(Attach(Handle(100), 8).ok());
  Crash();
  // The record of an agent to whose device all volumes were attached.
  for (int i = 0; i < kVolumes; ++i) {
    const VolumeParameters params = OfNode(i).volume();
    record::Volume row;
    row.id = *base::Uuid::Parse(VolumeUuid(100 + i));
    row.device_handle = Handle(i % kDevices);
    row.params = params;
    row.params.mutable_nvmf()->mutable_direct()->mutable_addresses(0)->set_trtype("tcp");
    row.bdev_name = VolumeUuid(100 + i);
    row.attachment = std::to_string(1 + i / kDevices);
    row.connection = "controller sma_" + NodeNqn(i) + "\n";
    row.state = record::VolumeState::kAttached;
    disk_->volumes[row.id] = row;
  }
  target_.SetRemote("n", Node(kVolumes, /*hangs=*/true));
  EXPECT_LT(TimeOf([&] { Open(); }), seconds(3));
  EXPECT_LT(TimeOf([&] {
              target_.Restart();
              target_.AddBdev(VolumeUuid(8));
              WaitFor([&] { return serving_ && Namespaces(100).size() == 1; });
            }),
            seconds(3));
  // There is one connection attempt to the node at a time, however many volumes it has.
  EXPECT_LE(CountCalls("bdev_nvme_attach_controller"), 4);
  EXPECT_LT(TimeOf([&] { EXPECT_TRUE(Detach(Handle(100), 8).ok()); }), milliseconds(500));
}

// Removing a namespace waits for its I/O, which waits for the storage node.
TEST_F(RemoteNodesTest, Defect53_DetachOfAVolumeWhoseRemoteDiedUnderIo) {
  for (bool direct : {true, false}) {
    for (bool deletes : {false, true}) {
      AttachVolumeRequest request = direct ? OfNode(0) : Discovered(100, {"6001"});
      target_.SetRemote("n", Node(1, /*hangs=*/false));
      ASSERT_TRUE(Send(request).ok());
      FakeRemote down = Node(1, /*hangs=*/false);
      down.up = false;
      target_.SetRemote("n", down);
      target_.SetIoUnderWay(true);
      absl::Status status;
      const auto time =
          TimeOf([&] { status = deletes ? Delete(Handle(0)) : Detach(Handle(0), 100); });
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_LT(time, seconds(5));
      WaitFor([&] { return core_->record().volume_count() == 0; });
      WaitFor([&] { return Services().empty() && Controllers().empty(); });
      target_.SetIoUnderWay(false);
      if (deletes) {
        ASSERT_TRUE(Create(0).ok());
      }
      EXPECT_TRUE(Namespaces(0).empty());
    }
  }
}

TEST_F(RemoteNodesTest, Defect54_PathsOfAVolumeAreCounted) {
  options_.watch_period = milliseconds(5);
  Crash();
  Open();
  FakeRemote second{.ports = {"6002"}, .subsystems = {{NodeNqn(0), {VolumeUuid(100)}}}};
  target_.SetRemote("n", Node(1, /*hangs=*/false));
  target_.SetRemote("m", second);
  AttachVolumeRequest request = OfNode(0);
  *request.mutable_volume()->mutable_nvmf()->mutable_direct()->add_addresses() = Address("6002");
  ASSERT_TRUE(Send(request).ok());
  auto paths = [&] { return core_->PathsOf(*base::Uuid::Parse(VolumeUuid(100))); };
  WaitFor([&] { return paths() == volume::PathCount{2, 2}; });
  second.up = false;
  target_.SetRemote("m", second);
  WaitFor([&] { return paths() == volume::PathCount{1, 2}; });
  FakeRemote down = Node(1, /*hangs=*/false);
  down.up = false;
  target_.SetRemote("n", down);
  WaitFor([&] { return paths() == volume::PathCount{0, 2}; });
  target_.SetRemote("n", Node(1, /*hangs=*/false));
  WaitFor([&] { return paths() == volume::PathCount{1, 2}; });
  // The paths are also counted for a volume found through discovery; a local volume has none.
  ASSERT_TRUE(Send(Discovered(1, {"8009"}, 1)).ok());
  WaitFor([&] {
    return core_->PathsOf(*base::Uuid::Parse(VolumeUuid(1))) == volume::PathCount{3, 3};
  });
  target_.AddBdev(VolumeUuid(8));
  ASSERT_TRUE(Attach(Handle(0), 8).ok());
  EXPECT_EQ(core_->PathsOf(*base::Uuid::Parse(VolumeUuid(8))), std::nullopt);
}

TEST_F(RemoteNodesTest, Defect60_APassedDeadlineIsReported) {
  options_.volumes.discovery_timeout = seconds(10);
  options_.volumes.local_wait = seconds(10);
  Crash();
  Open();
  target_.SetRemote("n", Node(1, /*hangs=*/true));
  AddUnit(7);
  target_.SetPortalHangs(kPortal, true);
  const std::string before = target_.Dump();
  AttachVolumeRequest local = Request(0, 99);
  for (const AttachVolumeRequest& request :
       {Discovered(99, {"8009"}), Discovered(99, {"1"}), OfNode(0), Unit(7)}) {
    const base::Context context = base::Context::WithTimeout(milliseconds(100));
    EXPECT_EQ(core_->agent().AttachVolume(context, request).status().code(),
              StatusCode::kDeadlineExceeded)
        << request.ShortDebugString();
  }
  WaitFor([&] { return core_->record().volume_count() == 0; });
  EXPECT_EQ(target_.Dump(), before);
}

// The call also fails immediately when the next attempt to connect to the node is due.
TEST_F(RemoteNodesTest, ADiscoveryNodeThatRefusesConnectionsIsUnavailableAtOnce) {
  options_.volumes.discovery_timeout = seconds(20);
  Crash();
  Open();
  for (int i = 0; i < 3; ++i) {
    absl::Status status;
    EXPECT_LT(TimeOf([&] { status = Send(Discovered(9, {"1"})); }), seconds(10));
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
    EXPECT_NE(status.message().find("127.0.0.1 port 1"), std::string::npos) << status;
    EXPECT_NE(status.message().find("the connection was refused"), std::string::npos) << status;
  }
  WaitFor([&] { return core_->record().volume_count() == 0; });
  EXPECT_TRUE(Services().empty());
}

// Another node, which another volume uses, has a namespace with the same UUID.
TEST_F(RemoteNodesTest, ANamespaceOfAnotherNodeIsNotTakenForTheVolumeOfADeadNode) {
  options_.volumes.discovery_timeout = seconds(2);
  Crash();
  Open();
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  const std::string before = target_.Dump();
  const absl::Status status = Send(Discovered(2, {"1"}, 1));
  EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  EXPECT_NE(status.message().find("127.0.0.1 port 1"), std::string::npos) << status;
  WaitFor([&] { return target_.Dump() == before; });
  EXPECT_EQ(core_->record().volume_count(), 1u);
}

TEST_F(RemoteNodesTest, Defect67_TheErrorSaysWhy) {
  auto message = [&](const AttachVolumeRequest& request) {
    return std::string(Send(request).message());
  };
  auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos ? testing::AssertionSuccess()
                                                : testing::AssertionFailure() << text;
  };
  // Nothing listens on port 1 of this host.
  EXPECT_TRUE(has(message(Discovered(9, {"1"})), "port 1: the connection was refused"));
  EXPECT_TRUE(has(message(Direct(1, {"1"})), "port 1: the connection was refused"));
  EXPECT_TRUE(has(message(Discovered(9, {"8009"})),
                  "no namespace with this UUID in the 1 subsystems that are connected: "));
  EXPECT_TRUE(has(message(Discovered(9, {"8009"})), kRemoteNqn));
  EXPECT_TRUE(has(message(Direct(9, {"4430"})), "has no namespace with this UUID"));
  AttachVolumeRequest wrong = Discovered(1, {"8009"});
  wrong.mutable_volume()->mutable_nvmf()->set_subnqn("nqn.2016-06.io.spdk:other");
  EXPECT_TRUE(has(message(wrong), "is in nqn.2016-06.io.spdk:remote0, not in nqn.2016-06.io"));
  AttachVolumeRequest unit = Unit(7);
  unit.mutable_volume()->mutable_iscsi()->set_portal("127.0.0.1:1");
  EXPECT_TRUE(has(message(unit), "the connection was refused"));
}

// A call that waits for a node holds the lock of its device. The background thread, and the calls
// queued behind it, wait for that lock only briefly.
TEST_F(RemoteNodesTest, ACallThatWaitsForANodeHoldsUpNoOtherDeviceAndNoOtherCall) {
  options_.volumes.discovery_timeout = seconds(15);
  options_.watch_period = milliseconds(10);
  Crash();
  Open();
  for (int volume : {50, 51, 52}) target_.AddBdev(VolumeUuid(volume));
  ASSERT_TRUE(Attach(Handle(0), 50).ok());
  ASSERT_TRUE(Attach(Handle(1), 51).ok());
  target_.SetRemote("n", Node(1, /*hangs=*/true));
  const base::Context waiting = base::Context::WithTimeout(seconds(30));
  std::thread call([&] { EXPECT_FALSE(core_->agent().AttachVolume(waiting, OfNode(0)).ok()); });
  WaitFor([this] { return CountCalls("bdev_nvme_attach_controller") == 1; });
  const auto time = TimeOf([&] {
    // The background thread is notified of device 0 first and cannot check it.
    for (int volume : {50, 51}) {
      Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(volume)}});
    }
    WaitFor([this] { return ErrorOf(51).code != StatusCode::kOk; });
    target_.AddBdev(VolumeUuid(51));
    WaitFor([this] { return Namespaces(1).size() == 1; });
    EXPECT_TRUE(Attach(Handle(0), 52).ok());
  });
  EXPECT_LT(time, seconds(5));
  waiting.Cancel();
  call.join();
}

// The detach was reported to the client as successful, although it is still under way.
TEST_F(RemoteNodesTest, AVolumeWhoseDetachGoesOnIsNotInTheWayOfItsDevice) {
  options_.refuse_delete_with_volumes = true;
  options_.removal_time = milliseconds(100);
  Crash();
  Open();
  target_.AddBdev(VolumeUuid(50));
  // Another volume depends on the connection, which is therefore not released.
  ASSERT_TRUE(Send(Discovered(1, {"8009"}, 0)).ok());
  ASSERT_TRUE(Send(Discovered(2, {"8009"}, 1)).ok());
  FakeRemote down = RemoteA();
  down.up = false;
  target_.SetRemote("a", down);
  target_.SetIoUnderWay(true);
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  ASSERT_EQ(core_->record().FindVolume(*base::Uuid::Parse(VolumeUuid(1)))->state,
            record::VolumeState::kDetaching);
  EXPECT_TRUE(Create(0, 50).ok());
  EXPECT_EQ(Delete(Handle(0)).code(), StatusCode::kFailedPrecondition) << "has volume 50";
  EXPECT_TRUE(Detach(Handle(0), 50).ok());
  EXPECT_TRUE(Delete(Handle(0)).ok());
  EXPECT_NE(core_->record().FindDevice(Handle(0))->state, record::DeviceState::kReady);
  target_.SetIoUnderWay(false);
}

// A call ends the connection attempt of another call while it is under way.
TEST(RemoteNodesAloneTest, AnAttemptThatWasEndedIsNotUnderWayForEver) {
  volume::RemoteNodes nodes;
  std::atomic<int> attempts{0};
  nodes
      .Restore("node", "key",
               [&](const base::Context& context) -> absl::Status {
                 if (attempts++ == 0) return absl::DeadlineExceededError("no answer");
                 return context.SleepUntil(base::TimePoint::max());
               })
      .IgnoreError();
  auto says_in_progress = [&] {
    return nodes.Admit("node").message().find("in progress") != std::string_view::npos;
  };
  const auto end = steady_clock::now() + seconds(20);
  while (!says_in_progress() && steady_clock::now() < end) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  ASSERT_TRUE(says_in_progress());
  EXPECT_TRUE(nodes.Cancel("key"));
  EXPECT_TRUE(nodes.Admit("node").ok()) << nodes.Admit("node");
}

// A call that waits for a silent node shares its device with all others; a repeated CreateDevice
// must not wait for it, nor must calls behind the CreateDevice.
TEST_F(RemoteNodesTest, ARepeatedCreateDeviceDoesNotWaitForASilentNode) {
  Crash();
  options_.volumes.discovery_timeout = seconds(5);
  Open();
  target_.AddBdev(VolumeUuid(8));
  target_.SetRemote("n", Node(1, /*hangs=*/true));
  std::thread silent([&] { EXPECT_FALSE(Send(OfNode(0)).ok()); });
  WaitFor([&] { return CountCalls("bdev_nvme_attach_controller") > 0; });
  EXPECT_LT(TimeOf([&] { EXPECT_TRUE(Create(0).ok()); }), seconds(1));
  EXPECT_LT(TimeOf([&] { EXPECT_TRUE(Attach(Handle(0), 8).ok()); }), seconds(1));
  EXPECT_LT(TimeOf([&] { EXPECT_TRUE(Create(0).ok()); }), seconds(1));
  silent.join();
}

// A device's other volumes do not wait for each silent node in turn.
TEST_F(RemoteNodesTest, Defect55_SilentNodesDoNotDelayTheOtherVolumesOfTheirDevice) {
  constexpr int kNodes = 10;
  target_.AddBdev(VolumeUuid(8));
  ASSERT_TRUE(Attach(Handle(0), 8).ok());
  auto name_of = [](int i) { return "silent" + std::to_string(i); };
  auto node_of = [](int i, bool hangs) {
    return FakeRemote{.ports = {std::to_string(7001 + i)},
                      .subsystems = {{NodeNqn(i), {VolumeUuid(100 + i)}}},
                      .hangs = hangs};
  };
  for (int i = 0; i < kNodes; ++i) {
    target_.SetRemote(name_of(i), node_of(i, /*hangs=*/false));
    AttachVolumeRequest request = OfNode(i);
    request.mutable_volume()->mutable_nvmf()->mutable_direct()->mutable_addresses(0)->set_trsvcid(
        std::to_string(7001 + i));
    ASSERT_TRUE(Send(request).ok());
  }
  for (int i = 0; i < kNodes; ++i) target_.SetRemote(name_of(i), node_of(i, /*hangs=*/true));
  Crash();
  Open();
  EXPECT_LT(TimeOf([&] {
              target_.Restart();
              target_.AddBdev(VolumeUuid(8));
              WaitFor([&] { return Namespaces(0).size() == 1; });
            }),
            milliseconds(1000));
}

}  // namespace
}  // namespace sma::core
