// SPDX-License-Identifier: Apache-2.0

// Tests how the target's descriptions of discovery services and controllers are used, complete or
// not.

#include <gtest/gtest.h>

#include <string>

#include "agent/record/testing/memory_store.h"
#include "agent/volume/connection_names.h"
#include "agent/volume/controllers.h"
#include "agent/volume/discovery.h"
#include "agent/volume/testing/scripted_target.h"

namespace sma::volume {
namespace {

using base::Context;
using base::Uuid;
using jsonrpc::Json;
using spdk::TransportAddress;

const TransportAddress kAddress{"tcp", "ipv4", "10.0.0.1", "8009"};

class RemoteObjectsTest : public testing::Test {
 protected:
  ScriptedTarget target_;
  std::unique_ptr<record::Record> record_ = *record::Record::Open(
      std::make_unique<record::MemoryStore>(std::make_shared<record::MemoryDisk>()));
};

class DiscoveryTest : public RemoteObjectsTest {
 protected:
  // Returns the service that serves `address` according to `info`, on a target that refuses to
  // start another one; "none" if no service does.
  std::string Serving(const std::string& info, const TransportAddress& address = kAddress) {
    target_.answers["bdev_nvme_start_discovery"] = ScriptedTarget::Refusal(-17);
    target_.answers["bdev_nvme_get_discovery_info"] = Json::parse(info);
    SharedConnections connections(target_, *record_);
    DiscoveryServices services(target_, connections);
    // All listed services are treated as the agent's own.
    for (const char* name : {"a", "b"}) {
      auto held = connections.Lock(Context::Background(), name);
      held->users().insert(Uuid::Random());
    }
    auto joined = services.Join(Context::WithTimeout(std::chrono::milliseconds(1)), volume_, "new",
                                address, "");
    return joined.ok() ? joined->name : "none";
  }

  const Uuid volume_ = Uuid::Random();
};

TEST_F(DiscoveryTest, SpellingsOfAnAddressAreEqual) {
  EXPECT_EQ(Serving(R"([{"name":"a","trid":{"trtype":"TCP","adrfam":"IPv4","traddr":"10.0.0.1",
                         "trsvcid":"8009","subnqn":"nqn.2014-08.org.nvmexpress.discovery"}}])"),
            "a");
  EXPECT_EQ(Serving(R"([{"name":"a","trid":{"trtype":"TCP","traddr":"FD00:0::0:A"}}])",
                    {"tcp", "ipv6", "fd00::a", "8009"}),
            "a");
  EXPECT_EQ(Serving(R"([{"name":"a","trid":{"trtype":"TCP","traddr":"10.0.0.1","trsvcid":"9"}}])"),
            "none");
  EXPECT_EQ(Serving(R"([{"name":"a","trid":{"trtype":"RDMA","traddr":"10.0.0.1"}}])"), "none");
}

TEST_F(DiscoveryTest, AnIncompleteReferralIsTheSameService) {
  EXPECT_EQ(Serving(R"([{"name":"a","trid":{"trtype":"TCP","traddr":"10.9.9.9"},"referrals":[
                         {}, {"trid":{}}, {"trid":{"traddr":"10.0.0.1"}}, {"trid":7},
                         {"trid":{"trtype":"TCP","traddr":"storage.example"}}]},
                        {"name":"b","trid":{"trtype":"TCP","traddr":"10.9.9.8"},"referrals":[
                         {"trid":{"trtype":"tcp","traddr":"10.0.0.1"}}]}])"),
            "b");
}

TEST_F(DiscoveryTest, MalformedEntriesDoNotHideOthers) {
  EXPECT_EQ(Serving(R"([{"name":"a"}, {"name":"c","trid":null}, {"name":"b","referrals":7,
                         "trid":{"trtype":"tcp","traddr":"10.0.0.1","trsvcid":8009}}])"),
            "b");
  EXPECT_EQ(Serving(R"({"name":"a"})"), "none");
  EXPECT_EQ(Serving(R"([{"trid":{"trtype":"tcp","traddr":"10.0.0.1"}}])"), "none");
}

TEST_F(DiscoveryTest, AServiceOfSomebodyElseHasNoName) {
  target_.answers["bdev_nvme_start_discovery"] = ScriptedTarget::Refusal(-17);
  target_.answers["bdev_nvme_get_discovery_info"] =
      Json::parse(R"([{"name":"operators","trid":{"trtype":"tcp","traddr":"10.0.0.1"}}])");
  SharedConnections connections(target_, *record_);
  DiscoveryServices services(target_, connections);
  EXPECT_EQ(services.Join(Context::Background(), volume_, "new", kAddress, "")->name, "");
}

TEST_F(DiscoveryTest, AServiceKeepsTheHostOfItsFirstVolume) {
  SharedConnections connections(target_, *record_);
  DiscoveryServices services(target_, connections);
  const Uuid other = Uuid::Random();
  const std::string name = ServiceName(kAddress, volume_);
  auto join = [&](const Uuid& volume, const char* host) {
    return services
        .Join(Context::Background(), volume, services.PlanName(kAddress, volume), kAddress, host)
        .ok();
  };
  // The target has the service, but the service has attached nothing.
  target_.answers["bdev_nvme_get_controllers"] = Json::array();
  ASSERT_TRUE(join(volume_, "nqn.2016-06.io.spdk:a"));
  ASSERT_TRUE(join(other, "nqn.2016-06.io.spdk:b"));
  ASSERT_EQ(target_.called.size(), 1u);
  EXPECT_EQ(target_.called[0].params["hostnqn"], "nqn.2016-06.io.spdk:a");
  // The service outlives the volume whose host NQN it has, and keeps this host NQN when restarted.
  ASSERT_TRUE(connections.Leave(Context::Background(), volume_, name).ok());
  EXPECT_EQ(target_.called.size(), 1u);
  target_.connection = 2;
  ASSERT_TRUE(join(other, "nqn.2016-06.io.spdk:b"));
  ASSERT_EQ(target_.called.size(), 2u);
  EXPECT_EQ(target_.called[1].params["hostnqn"], "nqn.2016-06.io.spdk:a");
  ASSERT_TRUE(connections.Leave(Context::Background(), other, name).ok());
  services.ForgetUnused(name);
  EXPECT_EQ(target_.called.back().method, "bdev_nvme_stop_discovery");
  EXPECT_EQ(services.HostOf(name), std::nullopt);
  ASSERT_TRUE(join(other, "nqn.2016-06.io.spdk:b"));
  EXPECT_EQ(services.HostOf(ServiceName(kAddress, other)), "nqn.2016-06.io.spdk:b");
}

TEST_F(DiscoveryTest, CallersPlanOneConnectionBeforeItExists) {
  target_.answers["bdev_nvme_get_controllers"] = Json::array();
  SharedConnections connections(target_, *record_);
  DiscoveryServices services(target_, connections);
  const Uuid other = Uuid::Random();
  const std::string name = services.PlanName(kAddress, volume_);
  EXPECT_EQ(name, ServiceName(kAddress, volume_));
  EXPECT_EQ(services.PlanName(kAddress, other), name);
  // An abandoned name is not planned again: a late call may still affect that connection.
  ASSERT_TRUE(connections.Leave(Context::Background(), volume_, name).ok());
  EXPECT_EQ(services.PlanName(kAddress, other), ServiceName(kAddress, other));
}

TEST(ConnectionNames, AreParsed) {
  const Uuid volume = Uuid::Random();
  const std::string service = ServiceName(kAddress, volume);
  EXPECT_EQ(KeyOf(service), ServiceKey(kAddress));
  EXPECT_EQ(ServiceOfController(service + "12"), service);
  EXPECT_EQ(ControllerOfBdev(service + "12n3"), service + "12");
  const std::string nqn = "nqn.2014-08.org.nvmexpress:uuid:" + Uuid::Random().ToString();
  const std::string controller = ControllerName(nqn, volume);
  EXPECT_EQ(KeyOf(controller), ControllerKey(nqn));
  EXPECT_EQ(ControllerOfBdev(controller + "n1"), controller);
  EXPECT_EQ(ServiceOfController(controller), std::nullopt);
  // A name as created by version 1.0.
  EXPECT_EQ(KeyOf("sma_tcp_10.0.0.1_8009_"), ServiceKey(kAddress));
  EXPECT_EQ(KeyOf("sma_nqn.2016-06.io.spdk:a"), ControllerKey("nqn.2016-06.io.spdk:a"));
  // Names that the agent did not create.
  EXPECT_EQ(ServiceOfController("operators0"), std::nullopt);
  EXPECT_EQ(ControllerOfBdev("Malloc0"), std::nullopt);
  EXPECT_EQ(ControllerOfBdev("n1"), std::nullopt);
}

class ControllersTest : public RemoteObjectsTest {
 protected:
  static constexpr JoinOptions kOptions{.timeout = std::chrono::seconds(1)};

  // Returns the list of one controller with one path in this state.
  static Json Paths(const std::string& state) {
    return Json::parse(R"([{"name":"sma_nqn.2016-06.io.spdk:a","ctrlrs":[{"state":")" + state +
                       R"(","trid":{"trtype":"TCP","traddr":"127.0.0.1","trsvcid":"1",
                                    "subnqn":"nqn.2016-06.io.spdk:a"}}]}])");
  }
  // Returns the number of the addresses 10.0.0.1 and ::1 to which the controller is connected if
  // the target lists `info`.
  size_t Connected(const std::string& info) {
    target_.called.clear();
    target_.answers["bdev_nvme_get_controllers"] = Json::parse(info);
    SharedConnections connections(target_, *record_);
    RemoteNodes nodes;
    Controllers controllers(target_, connections, nodes);
    EXPECT_TRUE(connections.RefreshControllers(Context::Background()).ok());
    target_.called.clear();
    RemoteSubsystem subsystem{
        .controller = "sma_nqn.2016-06.io.spdk:a",
        .subnqn = "nqn.2016-06.io.spdk:a",
        .hostnqn = "nqn.2016-06.io.spdk:h",
        .addresses = {{"tcp", "ipv4", "10.0.0.1", "4420"}, {"tcp", "ipv6", "::1", "4420"}}};
    JoinedPaths joined;
    EXPECT_TRUE(
        controllers.Join(Context::Background(), Uuid::Random(), subsystem, kOptions, joined).ok());
    for (const jsonrpc::Request& request : target_.called) {
      EXPECT_EQ(request.method, "bdev_nvme_attach_controller");
      EXPECT_EQ(request.params["multipath"], "multipath");
      EXPECT_EQ(request.params["hostnqn"], "nqn.2016-06.io.spdk:h");
    }
    return target_.called.size();
  }
};

TEST_F(ControllersTest, ExistingPathsAreNotAttachedAgain) {
  EXPECT_EQ(Connected("[]"), 2u);
  EXPECT_EQ(Connected(R"([{"name":"sma_nqn.2016-06.io.spdk:a","ctrlrs":[
                           {"trid":{"trtype":"TCP","traddr":"10.0.0.1","trsvcid":"4420"}}]}])"),
            1u);
  EXPECT_EQ(Connected(R"([{"name":"sma_nqn.2016-06.io.spdk:a","ctrlrs":[{},{"trid":1},
                           {"state":"enabled","trid":{"trtype":"TCP","traddr":"0::0:1","adrfam":"IPv6"}},
                           {"trid":{"trtype":"TCP","traddr":"10.0.0.1","trsvcid":"4420"}}]}])"),
            0u);
  EXPECT_EQ(Connected(R"([{"name":"other","ctrlrs":[
                           {"trid":{"trtype":"TCP","traddr":"10.0.0.1","trsvcid":"4420"}}]},
                          {"name":"sma_nqn.2016-06.io.spdk:a"}])"),
            2u);
}

TEST_F(ControllersTest, OnePathIsEnough) {
  RemoteSubsystem subsystem{.controller = "sma_nqn.2016-06.io.spdk:a",
                            .subnqn = "nqn.2016-06.io.spdk:a",
                            .hostnqn = "",
                            .addresses = {{"tcp", "ipv4", "127.0.0.1", "1"}}};
  SharedConnections connections(target_, *record_);
  RemoteNodes nodes;
  Controllers controllers(target_, connections, nodes);
  JoinedPaths joined;
  target_.answers["bdev_nvme_attach_controller"] = ScriptedTarget::Refusal(-5);
  EXPECT_EQ(
      controllers.Join(Context::Background(), Uuid::Random(), subsystem, kOptions, joined).code(),
      absl::StatusCode::kNotFound);
  // The path exists already (EALREADY), and the target tells whether it is up.
  target_.answers["bdev_nvme_attach_controller"] = ScriptedTarget::Refusal(-114);
  target_.answers["bdev_nvme_get_controllers"] = Paths("enabled");
  EXPECT_TRUE(
      controllers.Join(Context::Background(), Uuid::Random(), subsystem, kOptions, joined).ok());
  EXPECT_FALSE(target_.called.front().params.contains("hostnqn"));
  EXPECT_TRUE(joined.added.empty());
}

// The target lists a path that it is still connecting: the node may never answer.
TEST_F(ControllersTest, APathThatIsNotUpIsNotEnough) {
  RemoteSubsystem subsystem{.controller = "sma_nqn.2016-06.io.spdk:a",
                            .subnqn = "nqn.2016-06.io.spdk:a",
                            .hostnqn = "",
                            .addresses = {{"tcp", "ipv4", "127.0.0.1", "1"}}};
  SharedConnections connections(target_, *record_);
  RemoteNodes nodes;
  Controllers controllers(target_, connections, nodes);
  JoinedPaths joined;
  target_.answers["bdev_nvme_get_controllers"] = Paths("connecting");
  ASSERT_TRUE(connections.RefreshControllers(Context::Background()).ok());
  for (const char* reason : {"is not up", "has not answered for"}) {
    const Outcome outcome =
        controllers.Join(Context::Background(), Uuid::Random(), subsystem, kOptions, joined);
    EXPECT_EQ(outcome.code(), absl::StatusCode::kUnavailable) << outcome.message();
    EXPECT_NE(outcome.message().find(reason), std::string::npos) << outcome.message();
  }
  const JoinOptions any{.timeout = std::chrono::seconds(1), .needs_path = false};
  EXPECT_TRUE(controllers.Join(Context::Background(), Uuid::Random(), subsystem, any, joined).ok());
}

}  // namespace
}  // namespace sma::volume
