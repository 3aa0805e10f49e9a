// SPDX-License-Identifier: Apache-2.0

// Tests which subsystems a discovery service attaches and detaches.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage_target/bdev_modules/nvme/testing/module_fixture.h"
#include "storage_target/nvme/nqn.h"

namespace sma::storage_target::bdev_nvme {
namespace {

using initiator::Address;
using initiator::FakeServer;
using nvme::DiscoverySubtype;
using testing::ElementsAre;
using testing::UnorderedElementsAre;
using namespace std::chrono_literals;

class DiscoveryServiceTest : public ModuleFixture {
 protected:
  void SetUp() override {
    server_.AddNamespace(1, 8);
    other_.AddNamespace(2, 8);
  }

  static nvme::DiscoveryLogEntry Entry(DiscoverySubtype subtype, const Address& address,
                                       std::string_view subnqn) {
    nvme::DiscoveryLogEntry entry;
    entry.subtype = subtype;
    nvme::SetPadded(entry.transport_address, address.ip.ToString(), ' ');
    nvme::SetPadded(entry.service_id, std::to_string(address.port), ' ');
    nvme::SetPadded(entry.subsystem_nqn, subnqn, '\0');
    return entry;
  }
  static void List(FakeServer& log, const FakeServer& server, std::string_view subnqn) {
    ++log.discovery_generation;
    log.discovery_log.push_back(Entry(DiscoverySubtype::kNvm, server.address(), subnqn));
  }
  void SendLogEvent(FakeServer& server) {
    RunUntil([&] {
      return server.SendEvent(nvme::AsyncEventNotice::kDiscoveryLogChange,
                              nvme::LogPage::kDiscovery) > 0;
    });
  }

  DiscoveryService::Options ServiceOptions(const std::string& name = "d0") const {
    return {.name = name,
            .address = log_.address(),
            .hostnqn = kHostNqn,
            .wait_for_attach = true,
            .attach_timeout = 5s,
            .reconnect = {}};
  }
  int StartDiscovery(const DiscoveryService::Options& options) {
    std::optional<int> error;
    int refused = module_.StartDiscovery(options, [&](int e) { error = e; });
    if (refused != 0) return refused;
    EXPECT_TRUE(reactor_->RunUntil([&] { return error.has_value(); }, kPatience));
    return error.value_or(ETIME);
  }
  void StopDiscovery(const std::string& name = "d0") {
    bool done = false;
    ASSERT_EQ(module_.StopDiscovery(name, [&] { done = true; }), 0);
    RunUntil([&] { return done; });
  }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const RemoteSubsystem* subsystem : module_.List()) names.push_back(subsystem->name());
    return names;
  }

  static constexpr char kOtherNqn[] = "nqn.2016-06.io.spdk:remote1";
  FakeServer log_{*reactor_};
  FakeServer other_{*reactor_};
};

TEST_F(DiscoveryServiceTest, AttachesTheSubsystemsOfTheLog) {
  List(log_, server_, kNqn);
  List(log_, other_, kOtherNqn);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  EXPECT_THAT(Names(), ElementsAre("d00", "d01"));
  EXPECT_NE(Find("11111111-1111-1111-1111-111111111101"), nullptr);
  EXPECT_NE(Find("11111111-1111-1111-1111-111111111102"), nullptr);
  EXPECT_EQ(server_.hostnqns().front(), kHostNqn);
  EXPECT_EQ(log_.hostnqns().front(), kHostNqn);

  StopDiscovery();
  EXPECT_THAT(Names(), ElementsAre());
  EXPECT_EQ(Find("d00n1"), nullptr);
  EXPECT_TRUE(module_.discovery_services().empty());
  RunUntil([&] { return log_.connection_count() + server_.connection_count() == 0; });
  EXPECT_EQ(module_.StopDiscovery("d0", [] {}), ENOENT);
}

TEST_F(DiscoveryServiceTest, AnswersAtOnceWithoutWaitForAttach) {
  DiscoveryService::Options options = ServiceOptions();
  options.wait_for_attach = false;
  log_.StopListening();
  bool answered = false;
  EXPECT_EQ(module_.StartDiscovery(options, [&](int error) { answered = error == 0; }), 0);
  EXPECT_TRUE(answered);
  // Before the first connection, only the service's own address is reported.
  const auto referrals = module_.discovery_services()[0]->referrals();
  ASSERT_EQ(referrals.size(), 1u);
  EXPECT_EQ(referrals[0].address, log_.address());
  List(log_, server_, kNqn);
  log_.Listen();
  RunUntil([&] { return Find("d00n1") != nullptr; });
  EXPECT_TRUE(module_.discovery_services()[0]->referrals().empty());
}

TEST_F(DiscoveryServiceTest, FailsWhenNothingIsAttachedInTime) {
  DiscoveryService::Options options = ServiceOptions();
  options.attach_timeout = 100ms;
  EXPECT_EQ(StartDiscovery(options), ETIMEDOUT) << "an empty log";
  RunUntil([&] { return module_.discovery_services().empty(); });
  log_.StopListening();
  EXPECT_EQ(StartDiscovery(options), ETIMEDOUT) << "nobody listens";
  RunUntil([&] { return module_.discovery_services().empty(); });
}

TEST_F(DiscoveryServiceTest, RefusesASecondServiceForTheSameAddress) {
  List(log_, server_, kNqn);
  log_.discovery_log.push_back(
      Entry(DiscoverySubtype::kCurrentDiscovery, other_.address(), nvme::kDiscoveryNqn));
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  DiscoveryService::Options options = ServiceOptions("d1");
  EXPECT_EQ(StartDiscovery(options), EEXIST);
  options.address = other_.address();
  EXPECT_EQ(StartDiscovery(options), EEXIST) << "another address of the same service";
  options.name = "d0";
  options.address = server_.address();
  EXPECT_EQ(StartDiscovery(options), EEXIST) << "the same name";
  EXPECT_EQ(other_.accepted_count(), 0) << "no need to connect there, too";
}

TEST_F(DiscoveryServiceTest, FollowsTheLog) {
  List(log_, server_, kNqn);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  List(log_, other_, kOtherNqn);
  SendLogEvent(log_);
  RunUntil([&] { return Find("d01n2") != nullptr; });
  ++log_.discovery_generation;
  log_.discovery_log.erase(log_.discovery_log.begin());
  SendLogEvent(log_);
  RunUntil([&] { return module_.Find("d00") == nullptr; });
  EXPECT_NE(Find("d01n2"), nullptr);
  // A subsystem that is listed again keeps its name.
  List(log_, server_, kNqn);
  SendLogEvent(log_);
  RunUntil([&] { return Find("d00n1") != nullptr; });
}

// This happens when a storage node with many subsystems is lost: handling one loss must not take
// time for each subsystem.
TEST_F(DiscoveryServiceTest, APathThatGoesIsLookedForAloneAmongMany) {
  FakeServer node(*reactor_);  // without namespaces
  auto list = [&](int begin, int end) {
    for (int i = begin; i < end; ++i) {
      List(log_, node, "nqn.2016-06.io.spdk:one-of-many-subsystems-" + std::to_string(i));
    }
  };
  constexpr int kFew = 40;
  constexpr int kMany = 400;
  auto lose_others = [&] {
    const uint64_t start_ns = bdev::ThreadCpuNs();
    for (int i = 0; i < 20; ++i)
      module_.discovery_services().front()->OnPathGone(kNqn, /*by_request=*/false);
    return bdev::ThreadCpuNs() - start_ns;
  };
  list(0, kFew);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  RunUntil([&] { return Names().size() == size_t{kFew}; });
  const uint64_t few_ns = lose_others();
  list(kFew, kMany);
  SendLogEvent(log_);
  RunUntil([&] { return Names().size() == size_t{kMany}; });
  EXPECT_LT(lose_others(), 30 * few_ns + 1'000'000);
}

TEST_F(DiscoveryServiceTest, AnotherAddressOfASubsystemIsAnotherPath) {
  other_.namespaces = server_.namespaces;
  other_.identity.controller_id = 2;
  List(log_, server_, kNqn);
  List(log_, other_, kNqn);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  EXPECT_THAT(Names(), ElementsAre("d00"));
  EXPECT_EQ(module_.Find("d00")->paths().size(), 2u);
  ++log_.discovery_generation;
  log_.discovery_log.erase(log_.discovery_log.begin());
  SendLogEvent(log_);
  RunUntil([&] { return module_.Find("d00")->paths().size() == 1; });
  EXPECT_NE(Find("d00n1"), nullptr);
}

TEST_F(DiscoveryServiceTest, FollowsReferrals) {
  FakeServer third(*reactor_);
  log_.discovery_log.push_back(
      Entry(DiscoverySubtype::kReferral, other_.address(), nvme::kDiscoveryNqn));
  other_.discovery_log.push_back(Entry(DiscoverySubtype::kReferral, log_.address(),
                                       nvme::kDiscoveryNqn));  // a circular referral
  List(other_, server_, kNqn);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  EXPECT_NE(Find("d00n1"), nullptr);
  DiscoveryService::Options options = ServiceOptions("d1");
  options.address = other_.address();
  EXPECT_EQ(StartDiscovery(options), EEXIST);

  ++log_.discovery_generation;
  log_.discovery_log.clear();
  SendLogEvent(log_);
  RunUntil([&] { return module_.Find("d00") == nullptr; });
  RunUntil([&] { return other_.connection_count() == 0; });
}

TEST_F(DiscoveryServiceTest, AFailedAttachDoesNotDelayTheOthers) {
  List(log_, server_, kNqn);
  List(log_, other_, kOtherNqn);
  other_.StopListening();
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  EXPECT_NE(Find("d00n1"), nullptr);
  other_.Listen();
  RunUntil([&] { return Find("d01n2") != nullptr; });
}

TEST_F(DiscoveryServiceTest, IgnoresEntriesThatCannotBeUsed) {
  nvme::DiscoveryLogEntry no_address;
  nvme::SetPadded(no_address.subsystem_nqn, kOtherNqn, '\0');
  log_.discovery_log.push_back(no_address);
  List(log_, server_, kNqn);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  EXPECT_THAT(Names(), ElementsAre("d00"));
}

TEST_F(DiscoveryServiceTest, SurvivesALinkThatFlaps) {
  List(log_, server_, kNqn);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  TestDisk disk(registry_, *reactor_, "d00n1");
  for (int i = 0; i < 3; ++i) {
    log_.StopListening();
    server_.StopListening();
    RunUntil([&] { return !module_.Find("d00")->paths()[0]->is_up(); });
    log_.Listen();
    server_.Listen();
    RunUntil([&] { return module_.Find("d00")->paths()[0]->is_up(); });
  }
  bdev::TestIo read(bdev::IoType::kRead, 0, 1, 512);
  EXPECT_EQ(RunIo(*disk.channel, read), bdev::IoStatus::kOk);
  EXPECT_EQ(disk.events.removals, 0);
  // The service still follows the log.
  List(log_, other_, kOtherNqn);
  SendLogEvent(log_);
  RunUntil([&] { return Find("d01n2") != nullptr; });
}

TEST_F(DiscoveryServiceTest, ReconnectsWithPausesIfEveryConnectionIsLost) {
  List(log_, server_, kNqn);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  // Every controller becomes ready, its log is read, and the connection is dropped immediately.
  log_.hook = [&](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    if (command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kGetLogPage)) {
      reactor_->AddTimer(20ms, [this] { log_.DropConnections(); });
    }
    return {};
  };
  const int before = log_.accepted_count();
  log_.DropConnections();
  RunFor(1500ms);
  // Attempts are made immediately and after 0.1, 0.2, 0.4 and 0.8 s.
  EXPECT_LE(log_.accepted_count() - before, 6);
  EXPECT_GE(log_.accepted_count() - before, 3);
  EXPECT_EQ(module_.Find("d00")->paths()[0]->state(), Path::State::kEnabled);
}

TEST_F(DiscoveryServiceTest, APathLostForGoodIsAttachedAgain) {
  List(log_, server_, kNqn);
  DiscoveryService::Options options = ServiceOptions();
  options.reconnect = ReconnectOptions{1, 1, 0};
  EXPECT_EQ(StartDiscovery(options), 0);
  server_.StopListening();
  RunUntil([&] { return Find("d00n1") == nullptr; });
  server_.Listen();
  RunUntil([&] { return Find("d00n1") != nullptr; });
}

TEST_F(DiscoveryServiceTest, APathDetachedByRequestIsNotAttachedAgain) {
  List(log_, server_, kNqn);
  List(log_, other_, kOtherNqn);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  Detach("d00");
  SendLogEvent(log_);
  RunFor(300ms);
  EXPECT_EQ(module_.Find("d00"), nullptr);
}

TEST_F(DiscoveryServiceTest, DoesNotDetachWhatOthersHaveAttached) {
  AttachTo(server_, "nv0");
  List(log_, server_, kNqn);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  EXPECT_THAT(Names(), ElementsAre("nv0"));
  StopDiscovery();
  EXPECT_NE(Find("nv0n1"), nullptr);
}

TEST_F(DiscoveryServiceTest, AttachesWhatAnotherServiceHasDetached) {
  FakeServer second_log(*reactor_);
  List(log_, server_, kNqn);
  List(second_log, server_, kNqn);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  DiscoveryService::Options options = ServiceOptions("e");
  options.address = second_log.address();
  EXPECT_EQ(StartDiscovery(options), 0);
  EXPECT_THAT(Names(), ElementsAre("d00"));
  StopDiscovery("d0");
  RunUntil([&] { return Find("e0n1") != nullptr; });
}

TEST_F(DiscoveryServiceTest, ChoosesAnotherNameIfItsOwnIsInUse) {
  AttachOptions options = OptionsFor("d00", other_);
  options.subnqn = kOtherNqn;
  ASSERT_TRUE(Attach(options).ok());
  List(log_, server_, kNqn);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  EXPECT_THAT(Names(), UnorderedElementsAre("d00", "d01"));
}

TEST_F(DiscoveryServiceTest, StopsWhileItIsAttaching) {
  List(log_, server_, kNqn);
  server_.hook = [](uint16_t, const nvme::Command&) { return FakeServer::Reply{.silent = true}; };
  std::optional<int> error;
  ASSERT_EQ(module_.StartDiscovery(ServiceOptions(), [&](int e) { error = e; }), 0);
  RunUntil([&] { return module_.Find("d00") != nullptr; });
  StopDiscovery();
  EXPECT_EQ(error, ECANCELED);
  EXPECT_EQ(module_.Find("d00"), nullptr);
}

TEST_F(DiscoveryServiceTest, IsSavedInsteadOfWhatItHasAttached) {
  List(log_, server_, kNqn);
  EXPECT_EQ(StartDiscovery(ServiceOptions()), 0);
  std::vector<bdev::ConfigCall> calls;
  module_.SaveConfig(calls);
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[1].method, "bdev_nvme_start_discovery");
}

}  // namespace
}  // namespace sma::storage_target::bdev_nvme
