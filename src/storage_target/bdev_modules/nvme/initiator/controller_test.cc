// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/controller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "storage_target/bdev_modules/nvme/initiator/discovery_log.h"
#include "storage_target/bdev_modules/nvme/initiator/namespace_scan.h"
#include "storage_target/bdev_modules/nvme/initiator/testing/fake_server.h"
#include "storage_target/nvme/nqn.h"

namespace sma::storage_target::initiator {
namespace {

using namespace std::chrono_literals;
using nvme::AdminOpcode;
using testing::ElementsAre;
using testing::HasSubstr;

class ControllerTest : public testing::Test, protected Controller::Owner {
 protected:
  static constexpr char kHostNqn[] = "nqn.2016-06.io.spdk:host0";

  Controller::Options MakeOptions(std::string subnqn = "nqn.2016-06.io.spdk:remote0") const {
    return {.association = {.address = server_.address(),
                            .source = {},
                            .subnqn = std::move(subnqn),
                            .hostnqn = kHostNqn,
                            .host_id = {}},
            .io_queue_count = 2};
  }
  void Start(const Controller::Options& options) {
    controller_.emplace(*reactor_, options, static_cast<Controller::Owner&>(*this));
    controller_->Start();
  }
  void StartAndWait() {
    Start(MakeOptions());
    RunUntil([this] { return ready_ || closed_; });
    ASSERT_TRUE(ready_) << *closed_;
  }
  void RunUntil(const std::function<bool()>& condition) {
    ASSERT_TRUE(reactor_->RunUntil(condition, 10s));
  }

  void OnControllerReady(Controller&) override { ready_ = true; }
  void OnControllerClosed(Controller&, const std::string& reason) override { closed_ = reason; }
  void OnNamespacesChanged(Controller&) override { ++namespace_events_; }
  void OnDiscoveryLogChanged(Controller&) override { ++discovery_events_; }

  std::unique_ptr<Reactor> reactor_ = Reactor::ForThisThread({.poll = 0us});
  FakeServer server_{*reactor_};
  std::optional<Controller> controller_;
  bool ready_ = false;
  std::optional<std::string> closed_;
  int namespace_events_ = 0;
  int discovery_events_ = 0;
};

TEST_F(ControllerTest, BecomesReadyWithTheControllersProperties) {
  server_.identity.controller_id = 5;
  server_.identity.vwc = nvme::kVwcPresent;
  StartAndWait();
  const ControllerInfo& info = controller_->info();
  EXPECT_EQ(info.controller_id, 5);
  EXPECT_EQ(info.serial_number, "FAKE0001");
  EXPECT_EQ(info.model_number, "Fake controller");
  EXPECT_EQ(info.firmware_revision, "1.0");
  EXPECT_EQ(info.version, nvme::MakeVersion(1, 4));
  EXPECT_EQ(info.max_queue_entries, 128);
  EXPECT_EQ(info.in_capsule_bytes, 4096u);
  EXPECT_EQ(info.max_transfer_bytes, 128u * 1024);
  EXPECT_TRUE(info.write_cache);
  EXPECT_EQ(controller_->io_queue_count(), 2);
  EXPECT_THAT(server_.hostnqns(), ElementsAre(kHostNqn));

  QueuePair::Options queue = controller_->IoQueueOptions(2, 1000);
  EXPECT_EQ(queue.queue_id, 2);
  EXPECT_EQ(queue.controller_id, 5);
  EXPECT_EQ(queue.entries, 128);
  EXPECT_EQ(queue.in_capsule_bytes, 4096u);
}

TEST_F(ControllerTest, UsesTheNumberOfQueuesThatItGets) {
  server_.hook = [](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    if (command.opcode != static_cast<uint8_t>(AdminOpcode::kSetFeatures)) return {};
    return FakeServer::Reply{.dw0 = 0};
  };
  StartAndWait();
  EXPECT_EQ(controller_->io_queue_count(), 1);
}

TEST_F(ControllerTest, ReportsARefusedConnection) {
  Controller::Options options = MakeOptions();
  server_.StopListening();
  Start(options);
  EXPECT_FALSE(closed_) << "told before Start has returned";
  RunUntil([this] { return closed_.has_value(); });
  EXPECT_THAT(*closed_, HasSubstr("Connection refused"));
}

TEST_F(ControllerTest, ClosesIfConnectIsNotAnswered) {
  server_.hook = [](uint16_t, const nvme::Command&) { return FakeServer::Reply{.silent = true}; };
  Controller::Options options = MakeOptions();
  options.connect_timeout = 20ms;
  Start(options);
  RunUntil([this] { return closed_.has_value(); });
  EXPECT_THAT(*closed_, HasSubstr("no answer in time"));
}

TEST_F(ControllerTest, ClosesIfTheControllerDoesNotBecomeReady) {
  server_.cap = nvme::Capabilities{.max_queue_entries = 128, .timeout_500ms = 0}.Encode();
  server_.hook = [](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    auto property = std::bit_cast<nvme::PropertyCommand>(command);
    bool is_csts = command.opcode == static_cast<uint8_t>(AdminOpcode::kFabrics) &&
                   property.type == nvme::FabricsType::kPropertyGet &&
                   property.offset == static_cast<uint32_t>(nvme::Property::kCsts);
    if (!is_csts) return {};
    return FakeServer::Reply{};
  };
  Start(MakeOptions());
  RunUntil([this] { return closed_.has_value(); });
  EXPECT_EQ(*closed_, "the controller does not become ready");
}

// Each admin command of the initialization fails in turn.
TEST_F(ControllerTest, ClosesIfAStepOfTheStartFails) {
  int failing = 0;
  int seen = 0;
  server_.hook = [&](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    if (command.opcode == static_cast<uint8_t>(AdminOpcode::kAsyncEventRequest)) return {};
    if (seen++ != failing) return {};
    return FakeServer::Reply{.status = nvme::Status::kInternalError};
  };
  // The commands are Connect, CAP, VS, CC, CSTS, Identify and Number of Queues.
  for (failing = 0; failing < 7; ++failing) {
    seen = 0;
    ready_ = false;
    closed_.reset();
    Start(MakeOptions());
    RunUntil([this] { return ready_ || closed_; });
    EXPECT_TRUE(closed_) << "step " << failing;
    controller_.reset();
    RunUntil([this] { return server_.connection_count() == 0; });
  }
}

TEST_F(ControllerTest, ReportsALostConnection) {
  StartAndWait();
  server_.DropConnections();
  RunUntil([this] { return closed_.has_value(); });
  EXPECT_FALSE(controller_->ready());
}

TEST_F(ControllerTest, SendsKeepAliveTwiceInEachPeriod) {
  Controller::Options options = MakeOptions();
  options.keep_alive_ms = 20;
  Start(options);
  RunUntil([this] { return server_.count(AdminOpcode::kKeepAlive) >= 3; });
  EXPECT_FALSE(closed_);
}

TEST_F(ControllerTest, ClosesIfKeepAliveIsNotAnswered) {
  server_.hook = [](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    if (command.opcode != static_cast<uint8_t>(AdminOpcode::kKeepAlive)) return {};
    return FakeServer::Reply{.silent = true};
  };
  Controller::Options options = MakeOptions();
  options.keep_alive_ms = 20;
  Start(options);
  RunUntil([this] { return closed_.has_value(); });
  EXPECT_EQ(*closed_, "keep-alive was not answered");
}

TEST_F(ControllerTest, QuiesceTimeIsDerivedFromTheKeepAliveTimeThatTheControllerUses) {
  server_.identity.command_quiesce_ms = 70;
  uint32_t granted_ms = 300;
  server_.hook = [&](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    if (command.opcode != static_cast<uint8_t>(AdminOpcode::kGetFeatures)) return {};
    return FakeServer::Reply{.dw0 = granted_ms};
  };
  Controller::Options options = MakeOptions();
  options.keep_alive_ms = 250;
  auto quiesce_time = [&] {
    ready_ = false;
    Start(options);
    EXPECT_TRUE(reactor_->RunUntil([this] { return ready_; }, 10s));
    return controller_->quiesce_time();
  };
  EXPECT_EQ(quiesce_time(), 2 * 300ms + 70ms + 1000ms);
  granted_ms = 0;
  server_.identity.keep_alive_100ms = 2;
  EXPECT_EQ(quiesce_time(), 2 * 400ms + 70ms + 1000ms) << "rounded up to the granularity";
  options.keep_alive_ms = 0;
  EXPECT_EQ(quiesce_time(), 30s);
}

TEST_F(ControllerTest, ClosesIfAnAdminCommandIsNotAnswered) {
  server_.hook = [](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    if (command.opcode != static_cast<uint8_t>(AdminOpcode::kGetLogPage)) return {};
    return FakeServer::Reply{.silent = true};
  };
  Controller::Options options = MakeOptions();
  options.admin_timeout = 20ms;
  Start(options);
  RunUntil([this] { return ready_; });
  bool answered = false;
  controller_->GetLogPage({nvme::LogPage::kSmart, false, 512, 0, false},
                          [&](const Controller::Result&) { answered = true; });
  RunUntil([this] { return closed_.has_value(); });
  EXPECT_EQ(*closed_, "a command was not answered in time");
  EXPECT_FALSE(answered);
}

TEST_F(ControllerTest, ReportsEachNamespaceEvent) {
  StartAndWait();
  for (int i = 1; i <= 2; ++i) {
    RunUntil([this] {
      return server_.SendEvent(nvme::AsyncEventNotice::kNamespaceAttributeChanged,
                               nvme::LogPage::kChangedNamespaces) == 1;
    });
    RunUntil([&] { return namespace_events_ == i; });
    EXPECT_EQ(server_.count(AdminOpcode::kGetLogPage), i) << "the log page ends the event";
  }
}

TEST_F(ControllerTest, ShutsTheControllerDown) {
  StartAndWait();
  uint32_t cc = 0;
  server_.hook = [&](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    auto property = std::bit_cast<nvme::PropertyCommand>(command);
    if (property.type == nvme::FabricsType::kPropertySet)
      cc = static_cast<uint32_t>(property.value);
    return {};
  };
  bool done = false;
  controller_->Shutdown([&] { done = true; });
  RunUntil([&] { return done; });
  EXPECT_EQ(nvme::CcShn(cc), nvme::kShutdownNormal);
  EXPECT_FALSE(closed_) << "the owner asked for it";
  RunUntil([this] { return server_.connection_count() == 0; });
}

TEST_F(ControllerTest, ShutsDownWithoutTheRemote) {
  StartAndWait();
  server_.hook = [](uint16_t, const nvme::Command&) { return FakeServer::Reply{.silent = true}; };
  bool done = false;
  controller_->Shutdown([&] { done = true; });
  server_.DropConnections();
  RunUntil([&] { return done; });
}

TEST_F(ControllerTest, DropsCallbacksWhenDestroyed) {
  StartAndWait();
  bool called = false;
  controller_->Identify(nvme::Cns::kController, 0,
                        [&](const Controller::Result&) { called = true; });
  controller_.reset();
  RunUntil([this] { return server_.connection_count() == 0; });
  EXPECT_FALSE(called);
}

TEST_F(ControllerTest, FindsTheNamespaces) {
  for (uint32_t nsid : {1u, 3u, 900u}) server_.AddNamespace(nsid, nsid * 8);
  server_.AddNamespace(7, 0);  // has no blocks and cannot be used
  for (uint32_t nsid = 2000; nsid < 3100; ++nsid) server_.AddNamespace(nsid, 8);
  StartAndWait();
  std::optional<std::vector<NamespaceInfo>> found;
  NamespaceScan scan(*controller_, [&](bool complete, std::vector<NamespaceInfo> namespaces) {
    EXPECT_TRUE(complete);
    found = std::move(namespaces);
  });
  RunUntil([&] { return found.has_value(); });
  ASSERT_EQ(found->size(), 1103u);
  const NamespaceInfo& third = (*found)[1];
  EXPECT_EQ(third.nsid, 3u);
  EXPECT_EQ(third.block_count, 24u);
  EXPECT_EQ(third.block_size, 512u);
  EXPECT_EQ(third.uuid.ToString(), "11111111-1111-1111-1111-111111111103");
  EXPECT_TRUE(third.shared);
}

TEST_F(ControllerTest, ReportsAnIncompleteScan) {
  server_.AddNamespace(1, 8);
  server_.AddNamespace(2, 8);
  server_.hook = [](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    bool is_namespace = command.opcode == static_cast<uint8_t>(AdminOpcode::kIdentify) &&
                        command.cdw10 == static_cast<uint32_t>(nvme::Cns::kNamespace);
    if (!is_namespace || command.nsid != 1) return {};
    return FakeServer::Reply{.status = nvme::Status::kInternalError};
  };
  StartAndWait();
  std::optional<std::vector<NamespaceInfo>> found;
  NamespaceScan scan(*controller_, [&](bool complete, std::vector<NamespaceInfo> namespaces) {
    EXPECT_FALSE(complete);
    found = std::move(namespaces);
  });
  RunUntil([&] { return found.has_value(); });
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ(found->front().nsid, 2u);
}

nvme::DiscoveryLogEntry MakeEntry(nvme::DiscoverySubtype subtype, std::string_view traddr,
                                  std::string_view trsvcid, std::string_view subnqn) {
  nvme::DiscoveryLogEntry entry;
  entry.subtype = subtype;
  nvme::SetPadded(entry.transport_address, traddr, ' ');
  nvme::SetPadded(entry.service_id, trsvcid, ' ');
  nvme::SetPadded(entry.subsystem_nqn, subnqn, '\0');
  return entry;
}

constexpr char kNqn[] = "nqn.2016-06.io.spdk:x";

class DiscoveryTest : public ControllerTest {
 protected:
  std::optional<std::vector<DiscoveryEntry>> Read() {
    Controller::Options options = MakeOptions(nvme::kDiscoveryNqn);
    Start(options);
    EXPECT_TRUE(reactor_->RunUntil([this] { return ready_; }, 10s));
    std::optional<std::vector<DiscoveryEntry>> result;
    bool done = false;
    DiscoveryLogReader reader(*controller_,
                              [&](std::optional<std::vector<DiscoveryEntry>> entries) {
                                result = std::move(entries);
                                done = true;
                              });
    EXPECT_TRUE(reactor_->RunUntil([&] { return done; }, 10s));
    return result;
  }
};

TEST_F(DiscoveryTest, ReadsALogOfManyEntries) {
  for (int i = 0; i < 300; ++i) {
    server_.discovery_log.push_back(
        MakeEntry(nvme::DiscoverySubtype::kNvm, "192.0.2.1", std::to_string(4000 + i), kNqn));
  }
  auto entries = Read();
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 300u);
  EXPECT_EQ((*entries)[299].address.port, 4299);
  EXPECT_EQ(controller_->io_queue_count(), 0);
}

TEST_F(DiscoveryTest, ReadsAnEmptyLog) {
  auto entries = Read();
  ASSERT_TRUE(entries);
  EXPECT_TRUE(entries->empty());
}

TEST_F(DiscoveryTest, RereadsALogThatChangesDuringTheRead) {
  server_.discovery_log.push_back(
      MakeEntry(nvme::DiscoverySubtype::kNvm, "192.0.2.1", "4420", kNqn));
  int reads = 0;
  server_.hook = [&](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    if (command.opcode == static_cast<uint8_t>(AdminOpcode::kGetLogPage) && ++reads == 2) {
      ++server_.discovery_generation;
      server_.discovery_log.push_back(
          MakeEntry(nvme::DiscoverySubtype::kNvm, "192.0.2.2", "4420", kNqn));
    }
    return {};
  };
  auto entries = Read();
  ASSERT_TRUE(entries);
  EXPECT_EQ(entries->size(), 2u);
}

TEST_F(DiscoveryTest, FailsOnALogThatKeepsChanging) {
  server_.hook = [&](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    if (command.opcode == static_cast<uint8_t>(AdminOpcode::kGetLogPage)) {
      ++server_.discovery_generation;
    }
    return {};
  };
  EXPECT_FALSE(Read());
}

TEST_F(DiscoveryTest, RefusesAnUnlimitedLog) {
  server_.hook = [&](uint16_t, const nvme::Command& command) -> std::optional<FakeServer::Reply> {
    if (command.opcode != static_cast<uint8_t>(AdminOpcode::kGetLogPage)) return {};
    nvme::DiscoveryLogHeader header;
    header.record_count = UINT64_MAX / 2;
    return FakeServer::Reply{.data = {reinterpret_cast<const char*>(&header), sizeof header}};
  };
  EXPECT_FALSE(Read());
}

TEST_F(DiscoveryTest, ReportsChangesOfTheLog) {
  Read();
  RunUntil([this] {
    return server_.SendEvent(nvme::AsyncEventNotice::kDiscoveryLogChange,
                             nvme::LogPage::kDiscovery) == 1;
  });
  RunUntil([this] { return discovery_events_ == 1; });
}

TEST(DiscoveryEntryTest, FillsInMissingFields) {
  auto entry = ParseDiscoveryEntry(MakeEntry(nvme::DiscoverySubtype::kNvm, "192.0.2.1", "", kNqn));
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->address.ToString(), "192.0.2.1:4420");
  entry =
      ParseDiscoveryEntry(MakeEntry(nvme::DiscoverySubtype::kReferral, "2001:db8::0:1", "", ""));
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->address.ToString(), "[2001:db8::1]:8009");
  EXPECT_EQ(entry->subnqn, nvme::kDiscoveryNqn);
}

TEST(DiscoveryEntryTest, RefusesUnusableEntries) {
  using nvme::DiscoverySubtype;
  EXPECT_FALSE(ParseDiscoveryEntry(MakeEntry(DiscoverySubtype::kNvm, "", "4420", kNqn)));
  EXPECT_FALSE(ParseDiscoveryEntry(MakeEntry(DiscoverySubtype::kNvm, "host", "4420", kNqn)));
  EXPECT_FALSE(ParseDiscoveryEntry(MakeEntry(DiscoverySubtype::kNvm, "192.0.2.1", "0", kNqn)));
  EXPECT_FALSE(ParseDiscoveryEntry(MakeEntry(DiscoverySubtype::kNvm, "192.0.2.1", "99999", kNqn)));
  EXPECT_FALSE(ParseDiscoveryEntry(MakeEntry(DiscoverySubtype::kNvm, "192.0.2.1", "1", "")));
  EXPECT_FALSE(ParseDiscoveryEntry(MakeEntry(DiscoverySubtype::kNvm, "192.0.2.1", "1", "bad")));
  EXPECT_FALSE(
      ParseDiscoveryEntry(MakeEntry(static_cast<DiscoverySubtype>(9), "192.0.2.1", "4420", kNqn)));
  auto rdma = MakeEntry(DiscoverySubtype::kNvm, "192.0.2.1", "4420", kNqn);
  rdma.transport = nvme::TransportType::kRdma;
  EXPECT_FALSE(ParseDiscoveryEntry(rdma));
}

TEST(IdentityTest, RefusesUnusableNamespaces) {
  nvme::IdentifyNamespace data;
  data.nsze = 100;
  data.lba_formats[0].block_shift = 12;
  ASSERT_TRUE(ParseNamespace(1, data));
  data.lba_formats[0].block_shift = 8;
  EXPECT_FALSE(ParseNamespace(1, data));
  data.lba_formats[0].block_shift = 200;
  EXPECT_FALSE(ParseNamespace(1, data));
  data.lba_formats[0] = {.metadata_size = 8, .block_shift = 12};
  EXPECT_FALSE(ParseNamespace(1, data));
  data.lba_formats[0] = {.block_shift = 12};
  data.nsze = UINT64_MAX / 2;
  EXPECT_FALSE(ParseNamespace(1, data)) << "the size in bytes overflows";
}

TEST(IdentityTest, ParsesTheLimitsOfTheNvmCommandSet) {
  const uint64_t cap = nvme::Capabilities{.max_queue_entries = 128}.Encode();
  nvme::IdentifyController identity;
  identity.mdts = 5;
  ControllerInfo info = ParseController(identity, cap, 0);
  EXPECT_EQ(info.max_write_zeroes_bytes, 128u * 1024);
  EXPECT_EQ(info.max_unmap_range_blocks, UINT32_MAX);
  nvme::NvmIdentifyController limits;
  ApplyNvmLimits(limits, cap, info);
  EXPECT_EQ(info.max_write_zeroes_bytes, UINT64_MAX);
  EXPECT_EQ(info.max_unmap_range_blocks, UINT32_MAX);
  limits.write_zeroes_limit = 12;
  limits.dsm_range_size_limit = 5000;
  limits.dsm_size_limit = 4000;
  ApplyNvmLimits(limits, cap, info);
  EXPECT_EQ(info.max_write_zeroes_bytes, 16u << 20);
  EXPECT_EQ(info.max_unmap_range_blocks, 4000u);
  limits.write_zeroes_limit = 255;
  ApplyNvmLimits(limits, cap, info);
  EXPECT_EQ(info.max_write_zeroes_bytes, UINT64_MAX);
}

TEST(IdentityTest, PrefersTheUuidThenTheNguidThenTheEui64) {
  nvme::IdentifyNamespace data;
  data.nsze = 100;
  data.lba_formats[0].block_shift = 9;
  EXPECT_TRUE(ParseNamespace(1, data)->uuid.is_nil());
  data.eui64.fill(0xee);
  EXPECT_EQ(ParseNamespace(1, data)->uuid.ToString(), "00000000-0000-0000-eeee-eeeeeeeeeeee");
  data.nguid.fill(0x22);
  NamespaceInfo info = *ParseNamespace(1, data);
  EXPECT_EQ(info.uuid.ToString(), "22222222-2222-2222-2222-222222222222");
  std::string list("\x02\x10\0\0", 4);
  list += std::string(16, '\x44') + std::string("\x03\x10\0\0", 4) + std::string(16, '\x33');
  ApplyDescriptors(std::as_bytes(std::span(list)), info);
  EXPECT_EQ(info.uuid.ToString(), "33333333-3333-3333-3333-333333333333");
}

TEST(IdentityTest, IgnoresTruncatedDescriptors) {
  NamespaceInfo info;
  for (size_t size = 0; size < 20; ++size) {
    std::string list("\x03\x10\0\0", 4);
    list += std::string(16, '\x33');
    ApplyDescriptors(std::as_bytes(std::span(list)).first(size), info);
    EXPECT_TRUE(info.uuid.is_nil()) << size;
  }
}

TEST(IdentityTest, StopsAtANamespaceListThatDoesNotAscend) {
  nvme::NamespaceList list{5, 7, 7, 9};
  EXPECT_THAT(ParseNamespaceList(list, 0), ElementsAre(5, 7));
  EXPECT_THAT(ParseNamespaceList(list, 5), ElementsAre());
  list = {5, 0xffffffff};
  EXPECT_THAT(ParseNamespaceList(list, 0), ElementsAre(5));
}

TEST(AddressTest, ComparesByValue) {
  EXPECT_EQ(Address::Parse("::1", "4420"), Address::Parse("0:0::1", "4420"));
  EXPECT_NE(Address::Parse("::1", "4420"), Address::Parse("::1", "4421"));
  EXPECT_FALSE(Address::Parse("localhost", "4420"));
  EXPECT_FALSE(Address::Parse("127.0.0.1", "4420x"));
  EXPECT_FALSE(Address::Parse("127.0.0.1", ""));
  EXPECT_FALSE(Address::Parse("127.0.0.1", "65536"));
}

}  // namespace
}  // namespace sma::storage_target::initiator
