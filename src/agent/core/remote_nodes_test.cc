// Storage nodes that hang, refuse or die, through the whole agent: nobody else waits for them, and
// what was said of them is true.

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/core/remote_fixture.h"

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
  // Subsystems 0 to `count` - 1 with one volume each, from number 100 on, at one address.
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

// At the start of the agent, and after a restart of the target.
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
  // Calls for others, and for the node, are answered.
  target_.AddBdev(VolumeUuid(9));
  EXPECT_LT(TimeOf([&] { EXPECT_TRUE(Attach(Handle(0), 9).ok()); }), seconds(1));
  EXPECT_LT(TimeOf([&] { EXPECT_TRUE(Detach(Handle(0), 100).ok()); }), seconds(2));
  WaitFor([&] { return ErrorOf(101).code == StatusCode::kUnavailable; });
  EXPECT_NE(ErrorOf(101).message.find("127.0.0.1 port 6001"), std::string::npos)
      << ErrorOf(101).message;
  EXPECT_EQ(ErrorOf(7).code, StatusCode::kUnavailable);
  EXPECT_NE(ErrorOf(7).message.find(kPortal), std::string::npos) << ErrorOf(7).message;
  // What the agent that was stopped left unfinished is cleared by the next comparison.
  WaitFor([&] { return ErrorOf(8).code == StatusCode::kOk; });
}

TEST_F(RemoteNodesTest, Defect46_ANodeThatComesBackIsConnectedAgain) {
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

// A call pays for the first attempt; those that follow are answered at once, with the reason.
TEST_F(RemoteNodesTest, Defect46_CallsForANodeThatDidNotAnswerEndAtOnce) {
  options_.volumes.discovery_timeout = milliseconds(1200);
  Crash();
  Open();
  target_.SetRemote("n", Node(2, /*hangs=*/true));
  target_.SetPortalHangs(kPortal, true);
  AddUnit(7);
  AddUnit(8);
  for (const auto& [first, second] :
       {std::pair(OfNode(0), OfNode(1)), std::pair(Unit(7), Unit(8))}) {
    EXPECT_EQ(Send(first).code(), StatusCode::kNotFound);
    absl::Status status;
    EXPECT_LT(TimeOf([&] { status = Send(second); }), milliseconds(200));
    EXPECT_EQ(status.code(), StatusCode::kUnavailable);
    EXPECT_NE(status.message().find("has not answered for"), std::string::npos) << status;
  }
  target_.SetRemote("n", Node(2, /*hangs=*/false));
  WaitFor([&] { return Send(OfNode(0)).ok(); });
}

// The number of round trips of a comparison, and its time, do not grow with the volumes of a node
// that is down.
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
  // The record of an agent that had all of them attached.
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
  // One attempt for the node at a time, however many volumes it has.
  EXPECT_LE(CountCalls("bdev_nvme_attach_controller"), 4);
  EXPECT_LT(TimeOf([&] { EXPECT_TRUE(Detach(Handle(100), 8).ok()); }), milliseconds(500));
}

// The removal of a namespace waits for the I/O, and that for the remote.
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
  // By discovery as well; a local volume has no paths.
  ASSERT_TRUE(Send(Discovered(1, {"8009"}, 1)).ok());
  WaitFor([&] {
    return core_->PathsOf(*base::Uuid::Parse(VolumeUuid(1))) == volume::PathCount{3, 3};
  });
  target_.AddBdev(VolumeUuid(8));
  ASSERT_TRUE(Attach(Handle(0), 8).ok());
  EXPECT_EQ(core_->PathsOf(*base::Uuid::Parse(VolumeUuid(8))), std::nullopt);
}

TEST_F(RemoteNodesTest, Defect60_ADeadlineThatHasPassedIsSaidToBe) {
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

TEST_F(RemoteNodesTest, Defect67_TheAnswerSaysWhy) {
  auto message = [&](const AttachVolumeRequest& request) {
    return std::string(Send(request).message());
  };
  auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos ? testing::AssertionSuccess()
                                                : testing::AssertionFailure() << text;
  };
  // Nothing listens at port 1 of this host.
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

}  // namespace
}  // namespace sma::core
