// SPDX-License-Identifier: Apache-2.0

// Tests, with the whole agent, which remote subsystem a volume is in: nodes that were cloned, nodes
// that are down while others are up, paths that are lost, and bdevs of others with a volume's UUID.

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "agent/core/testing/remote_fixture.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using jsonrpc::Json;
using spdk::FakeRemote;
using std::chrono::milliseconds;
using std::chrono::seconds;

class RemoteIdentityTest : public RemoteFixture {
 protected:
  // Returns a node with one subsystem at one port.
  static FakeRemote Node(const std::string& port, int volume, const std::string& nqn = kRemoteNqn) {
    return {.ports = {port}, .subsystems = {{nqn, {VolumeUuid(volume)}}}};
  }
  static AttachVolumeRequest At(const std::string& port, int volume, int device) {
    AttachVolumeRequest request = Direct(volume, {port});
    request.set_device_handle(Handle(device));
    return request;
  }
  void SetUp() override {
    RemoteFixture::SetUp();
    // Clones: the same NQN, and other disks.
    target_.SetRemote("n1", Node("7001", 21));
    target_.SetRemote("n2", Node("7002", 22));
    options_.volumes.discovery_timeout = seconds(3);
    Crash();
    Open();
  }
  void SetNode(const std::string& node, bool up) {
    FakeRemote remote = node == "n1" ? Node("7001", 21) : Node("7002", 22);
    remote.up = up;
    target_.SetRemote(node, remote);
  }
  // Waits for so many comparisons that volume_cleanup_period, of 50 ms, has ended since.
  void WaitForComparisons() {
    target_.ResetCounts();
    WaitFor([&] { return CountCalls("nvmf_get_subsystems") >= 30; });
  }
  std::optional<record::Volume> RowOf(int volume) {
    return core_->record().FindVolume(*base::Uuid::Parse(VolumeUuid(volume)));
  }
  std::string PathsOf(int volume) {
    admin::v1::GetVolumeRequest request;
    request.set_volume_id(Id(volume));
    const auto shown = core_->admin().GetVolume(context_, request);
    if (!shown.ok()) return "";
    for (const auto& condition : shown->conditions()) {
      if (condition.type() == "PathsUp") return condition.message() + " " + condition.reason();
    }
    return "";
  }
};

TEST_F(RemoteIdentityTest, ClonedNodesHaveConnectionsOfTheirOwn) {
  const std::string before = target_.Dump();
  ASSERT_TRUE(Send(At("7001", 21, 0)).ok());
  const std::string with_first = target_.Dump();
  for (bool restarts : {false, true}) {
    ASSERT_TRUE(Send(At("7002", 22, 1)).ok());
    if (restarts) {
      Crash();
      Open();
    }
    EXPECT_EQ(Namespaces(0), std::vector<std::string>{VolumeUuid(21)});
    EXPECT_EQ(Namespaces(1), std::vector<std::string>{VolumeUuid(22)});
    ASSERT_TRUE(Send(At("7002", 22, 1)).ok()) << "again";
    ASSERT_EQ(Controllers().size(), 2);
    for (const Json& controller : Controllers()) EXPECT_EQ(controller["ctrlrs"].size(), 1);
    ASSERT_TRUE(Detach(Handle(1), 22).ok());
    EXPECT_EQ(target_.Dump(), with_first);
  }
  ASSERT_TRUE(Detach(Handle(0), 21).ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(RemoteIdentityTest, AnAttachThatFailsLeavesNoPathOnTheConnectionOfOthers) {
  ASSERT_TRUE(Send(At("7001", 21, 0)).ok());
  const std::string before = target_.Dump();
  EXPECT_EQ(Send(At("7002", 29, 1)).code(), StatusCode::kNotFound);
  EXPECT_EQ(target_.Dump(), before);
  // Also a path to the same subsystem.
  FakeRemote wide = Node("7001", 21);
  wide.ports.push_back("7003");
  target_.SetRemote("n1", wide);
  EXPECT_EQ(Send(At("7003", 29, 1)).code(), StatusCode::kNotFound);
  EXPECT_EQ(target_.Dump(), before);
  // The address of another volume stays.
  AttachVolumeRequest both = At("7001", 21, 0);
  *both.mutable_volume()->mutable_nvmf()->mutable_direct()->add_addresses() = Address("7003");
  ASSERT_TRUE(Send(both).ok());
  EXPECT_EQ(Send(At("7003", 29, 1)).code(), StatusCode::kNotFound);
  EXPECT_EQ(Controllers()[0]["ctrlrs"].size(), 2);
}

TEST_F(RemoteIdentityTest, AVolumeIsNotGoneBecauseItsNodeIsDownAndAClonedOneIsUp) {
  options_.drift_period = milliseconds(5);
  options_.watch_period = milliseconds(5);
  options_.volume_cleanup_period = milliseconds(50);
  options_.detach_gone_volumes = true;
  Crash();
  Open();
  ASSERT_TRUE(Send(At("7001", 21, 0)).ok());
  ASSERT_TRUE(Send(At("7002", 22, 1)).ok());
  SetNode("n1", false);
  target_.Restart();
  WaitFor([&] { return Namespaces(1).size() == 1; });
  WaitFor([&] { return RowOf(21)->last_error.code == StatusCode::kUnavailable; });
  WaitForComparisons();
  ASSERT_TRUE(RowOf(21).has_value());
  EXPECT_EQ(RowOf(21)->state, record::VolumeState::kAttached);
  EXPECT_EQ(RowOf(21)->last_error.code, StatusCode::kUnavailable) << RowOf(21)->last_error.message;
  SetNode("n1", true);
  WaitFor([&] { return Namespaces(0).size() == 1; });
}

// One discovery service lists the subsystems of two nodes.
TEST_F(RemoteIdentityTest, AVolumeIsNotGoneBecauseItsNodeIsDownAndAnotherIsListed) {
  options_.drift_period = milliseconds(5);
  options_.watch_period = milliseconds(5);
  options_.volume_cleanup_period = milliseconds(50);
  options_.detach_gone_volumes = true;
  Crash();
  Open();
  FakeRemote lister = Node("7005", 32, "nqn.2016-06.io.spdk:lister");
  lister.lists = {"other"};
  FakeRemote other = Node("7006", 31, "nqn.2016-06.io.spdk:other");
  target_.SetRemote("other", other);
  target_.SetRemote("lister", lister);
  ASSERT_TRUE(Send(Discovered(31, {"7005"}, 0)).ok());
  ASSERT_TRUE(Send(Discovered(32, {"7005"}, 1)).ok());
  other.up = false;
  target_.SetRemote("other", other);
  for (bool restarts_agent : {false, true}) {
    if (restarts_agent) {
      Crash();
      target_.Restart();
      Open();
    } else {
      target_.Restart();
    }
    WaitFor([&] { return Namespaces(1).size() == 1; });
    WaitFor([&] { return RowOf(31)->last_error.code == StatusCode::kUnavailable; });
    WaitForComparisons();
    ASSERT_TRUE(RowOf(31).has_value());
    EXPECT_EQ(RowOf(31)->state, record::VolumeState::kAttached);
    EXPECT_EQ(RowOf(31)->last_error.code, StatusCode::kUnavailable)
        << RowOf(31)->last_error.message;
  }
}

// A volume that moves from one node to another, both of which are listed by one service.
class MovedVolumeTest : public RemoteIdentityTest {
 protected:
  void SetUp() override {
    RemoteIdentityTest::SetUp();
    options_.drift_period = milliseconds(5);
    options_.watch_period = milliseconds(5);
    options_.volume_cleanup_period = milliseconds(50);
    options_.detach_gone_volumes = true;
    Crash();
    Open();
    old_.lists = {"new"};
    new_.subsystems.begin()->second.clear();
    target_.SetRemote("new", new_);
    target_.SetRemote("old", old_);
    ASSERT_TRUE(Send(Discovered(31, {"7005"}, 0)).ok());
    WaitFor([&] { return PathsOf(31) == "1 of 1 Connected"; });
  }
  void Move() {
    old_.subsystems.begin()->second.clear();
    target_.SetRemote("old", old_);
    new_.subsystems.begin()->second = {VolumeUuid(31)};
    target_.SetRemote("new", new_);
    WaitFor([&] { return Namespaces(0).size() == 1; });
  }

  FakeRemote old_ = Node("7005", 31, "nqn.2016-06.io.spdk:old");
  FakeRemote new_ = Node("7006", 31, "nqn.2016-06.io.spdk:new");
};

TEST_F(MovedVolumeTest, IsNoLongerExpectedAtTheOldNode) {
  Move();
  WaitFor([&] {
    const std::string connection = RowOf(31)->connection;
    return connection.find("path 127.0.0.1 7005") == std::string::npos &&
           connection.find("path 127.0.0.1 7006") != std::string::npos;
  });
  WaitFor([&] { return PathsOf(31) == "1 of 1 Connected"; });
}

// The old node answers that it does not have the volume, but the volume is at the new one.
TEST_F(MovedVolumeTest, IsNotGoneWhileTheNewNodeIsDown) {
  Move();
  new_.up = false;
  target_.SetRemote("new", new_);
  target_.Restart();
  WaitFor([&] { return RowOf(31)->last_error.code == StatusCode::kUnavailable; });
  WaitForComparisons();
  ASSERT_TRUE(RowOf(31).has_value());
  EXPECT_EQ(RowOf(31)->state, record::VolumeState::kAttached);
  EXPECT_EQ(RowOf(31)->last_error.code, StatusCode::kUnavailable);
}

// A path whose node is down is still expected.
TEST_F(MovedVolumeTest, KeepsThePathsOfANodeThatIsDown) {
  old_.ports.push_back("7007");
  target_.SetRemote("old", old_);
  WaitFor([&] { return PathsOf(31) == "2 of 2 Connected"; });
  old_.ports.pop_back();
  target_.SetRemote("old", old_);
  WaitFor([&] { return PathsOf(31) == "1 of 2 SomeDown"; });
  WaitForComparisons();
  EXPECT_EQ(PathsOf(31), "1 of 2 SomeDown");
}

// A node that no longer lists an address, and a target that does not connect it again.
TEST_F(RemoteIdentityTest, ALostPathIsStillCounted) {
  options_.watch_period = milliseconds(5);
  Crash();
  Open();
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  WaitFor([&] { return PathsOf(1) == "3 of 3 Connected"; });
  FakeRemote fewer = RemoteA();
  fewer.ports.pop_back();
  target_.SetRemote("a", fewer);
  WaitFor([&] { return PathsOf(1) == "2 of 3 SomeDown"; });
  EXPECT_EQ(core_->CountConditions().paths.total - core_->CountConditions().paths.up, 1u);
  Crash();
  Open();
  WaitFor([&] { return PathsOf(1) == "2 of 3 SomeDown"; });
  target_.SetRemote("a", RemoteA());
  WaitFor([&] { return PathsOf(1) == "3 of 3 Connected"; });
}

TEST_F(RemoteIdentityTest, ALocalBdevWithTheUuidIsNotTheRemoteVolume) {
  target_.AddBdev(VolumeUuid(1));
  const std::string before = target_.Dump();
  EXPECT_EQ(Send(Discovered(1, {"8009"})).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(Send(Direct(1, {"4430"})).code(), StatusCode::kInvalidArgument) << "in no subsystem";
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(core_->record().volume_count(), 0u);
}

TEST_F(RemoteIdentityTest, AnOperatorsConnectionToAnotherNodeIsNotTheVolumes) {
  target_.SetRemote("copy", Node("7009", 1, "nqn.2016-06.io.spdk:copy"));
  Operator("bdev_nvme_attach_controller", {{"name", "op0"},
                                           {"trtype", "tcp"},
                                           {"adrfam", "ipv4"},
                                           {"traddr", "127.0.0.1"},
                                           {"trsvcid", "7009"},
                                           {"subnqn", "nqn.2016-06.io.spdk:copy"}});
  // A node at another host, so that the address does not tell.
  AttachVolumeRequest request = Discovered(1, {"8009"});
  EXPECT_NE(Send(request).code(), StatusCode::kOk);
  EXPECT_TRUE(Namespaces(0).empty());
  EXPECT_TRUE(Services().empty());
}

// While the volume is missing, an operator creates a bdev with its UUID.
TEST_F(RemoteIdentityTest, AMissingVolumeIsNotReplacedByAnotherBdev) {
  options_.watch_period = milliseconds(5);
  Crash();
  Open();
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  FakeRemote without = RemoteA();
  without.subsystems[kRemoteNqn] = {VolumeUuid(2)};
  target_.SetRemote("a", without);
  WaitFor([&] { return RowOf(1)->last_error.code == StatusCode::kNotFound; });
  target_.AddBdev(VolumeUuid(1));
  WaitFor([&] { return RowOf(1)->last_error.code == StatusCode::kAlreadyExists; });
  EXPECT_TRUE(Namespaces(0).empty());
}

TEST_F(RemoteIdentityTest, ALocalVolumeGetsNoConnection) {
  target_.AddBdev(VolumeUuid(7));
  ASSERT_TRUE(Attach(Handle(0), 7).ok());
  const std::string before = target_.Dump();
  EXPECT_EQ(Send(Discovered(7, {"8009"})).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_FALSE(RowOf(7)->params.has_nvmf());
  EXPECT_EQ(RowOf(7)->connection, "");
}

TEST_F(RemoteIdentityTest, ARefusedRequestDoesNotChangeTheConnection) {
  ASSERT_TRUE(Send(Discovered(1, {"8009"})).ok());
  ASSERT_TRUE(Attach(Handle(0), 1).ok()) << "an empty request";
  const std::string connection = RowOf(1)->connection;
  const std::string before = target_.Dump();
  AttachVolumeRequest request = Discovered(1, {"4430"});
  request.mutable_volume()->mutable_crypto()->set_key("1234567890abcdef1234567890abcdef");
  EXPECT_FALSE(Send(request).ok());
  EXPECT_EQ(RowOf(1)->connection, connection);
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(RemoteIdentityTest, ARepeatedAttachOfADeletedBdevSaysThatItIsMissing) {
  target_.AddBdev(VolumeUuid(7));
  ASSERT_TRUE(Attach(Handle(0), 7).ok());
  Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(7)}});
  EXPECT_EQ(Attach(Handle(0), 7).code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace sma::core
