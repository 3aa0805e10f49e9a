// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "storage_target/bdev_modules/malloc/malloc_bdev.h"
#include "storage_target/nvme/identify_namespace.h"
#include "storage_target/nvme/log_page.h"
#include "storage_target/nvmf/health_cache.h"
#include "storage_target/nvmf/testing/fake_queue_pair.h"
#include "storage_target/nvmf/testing/fake_transport.h"

namespace sma::storage_target::nvmf {
namespace {

using nvme::AdminOpcode;
using nvme::Cns;
using nvme::Feature;
using nvme::Status;

constexpr char kNqn[] = "nqn.2016-06.io.spdk:test";

class AdminTest : public testing::Test {
 protected:
  AdminTest() {
    bdev::Bdev::Info info;
    info.name = "disk";
    info.block_size = 512;
    info.block_count = 1000;
    info.uuid = *base::Uuid::Parse("00112233-4455-6677-8899-aabbccddeeff");
    EXPECT_EQ(registry_.Register(*bdev_malloc::MakeMallocBdev(info)), 0);
    SubsystemOptions options;
    options.nqn = kNqn;
    options.serial_number = "SN1";
    options.model_number = "Model";
    options.max_namespaces = 8;
    options.allow_any_host = true;
    subsystem_ = *target_.CreateSubsystem(options);
    EXPECT_EQ(target_.AddTransport(std::make_unique<FakeTransport>()), 0);
    EXPECT_EQ(subsystem_->AddListener(*target_.FindTransport("fake"), {"FAKE", {}, "here", ""}), 0);
    NamespaceOptions ns;
    ns.bdev_name = "disk";
    ns.nsid = 3;
    subsystem_->namespaces().Add(ns, [](auto nsid) { EXPECT_TRUE(nsid.ok()); });
    EXPECT_EQ(admin_.Connect(kNqn), Status::kSuccess);
  }
  ~AdminTest() override {
    admin_.Drop();
    bool done = false;
    target_.Shutdown([&] { done = true; });
    EXPECT_TRUE(reactor_->RunUntil([&] { return done; }, std::chrono::seconds(10)));
    done = false;
    registry_.Unregister(*registry_.Find("disk"), [&] { done = true; });
    EXPECT_TRUE(reactor_->RunUntil([&] { return done; }, std::chrono::seconds(10)));
  }

  static nvme::Command Command(AdminOpcode opcode, uint32_t cdw10 = 0, uint32_t cdw11 = 0,
                               uint32_t nsid = 0) {
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(opcode);
    command.nsid = nsid;
    command.cdw10 = cdw10;
    command.cdw11 = cdw11;
    return command;
  }
  std::shared_ptr<FakeQueuePair::FakeRequest> Identify(Cns cns, uint32_t nsid = 0,
                                                       uint32_t cdw11 = 0) {
    return admin_.Run(Command(AdminOpcode::kIdentify, static_cast<uint32_t>(cns), cdw11, nsid),
                      4096);
  }
  static nvme::Command LogCommand(nvme::LogPage page, uint64_t size, uint64_t offset = 0) {
    nvme::Command command = Command(AdminOpcode::kGetLogPage);
    command.nsid = nvme::kBroadcastNsid;
    nvme::GetLogPage{.page = page,
                     .retain_event = false,
                     .size_bytes = size,
                     .offset_bytes = offset,
                     .offset_is_index = false}
        .Encode(command);
    return command;
  }
  std::shared_ptr<FakeQueuePair::FakeRequest> Log(nvme::LogPage page, uint64_t size,
                                                  uint64_t offset = 0) {
    return admin_.Run(LogCommand(page, size, offset), size);
  }
  std::shared_ptr<FakeQueuePair::FakeRequest> Set(Feature feature, uint32_t value) {
    return admin_.Run(Command(AdminOpcode::kSetFeatures, static_cast<uint32_t>(feature), value));
  }
  std::shared_ptr<FakeQueuePair::FakeRequest> Get(Feature feature, uint32_t cdw11 = 0,
                                                  size_t size = 0) {
    return admin_.Run(Command(AdminOpcode::kGetFeatures, static_cast<uint32_t>(feature), cdw11),
                      size);
  }

  std::unique_ptr<Reactor> reactor_ =
      Reactor::ForThisThread({.index = 0, .poll = std::chrono::microseconds(0)});
  bdev::Registry registry_{*reactor_};
  Target target_{*reactor_, {reactor_.get()}, registry_};
  Subsystem* subsystem_;
  FakeQueuePair admin_{target_, *reactor_};
};

TEST_F(AdminTest, IdentifyController) {
  auto id = Identify(Cns::kController)->DataAs<nvme::IdentifyController>();
  EXPECT_EQ(nvme::Unpadded(id.serial_number), "SN1");
  EXPECT_EQ(nvme::Unpadded(id.model_number), "Model");
  EXPECT_EQ(nvme::NulTerminated(id.subsystem_nqn), kNqn);
  EXPECT_EQ(id.mdts, 5);  // 128 KiB
  EXPECT_EQ(id.namespace_count, 8u);
  EXPECT_EQ(id.controller_id, 1);
  EXPECT_EQ(id.ioccsz, (64u + 4096) / 16);
  EXPECT_EQ(id.keep_alive_100ms, 100);
}

TEST_F(AdminTest, IdentifyNamespace) {
  auto ns = Identify(Cns::kNamespace, 3)->DataAs<nvme::IdentifyNamespace>();
  EXPECT_EQ(ns.nsze, 1000u);
  EXPECT_EQ(ns.lba_format().block_shift, 9);
  EXPECT_EQ(base::Uuid(ns.nguid).ToString(), "00112233-4455-6677-8899-aabbccddeeff");
  // Tests a valid NSID without a namespace, and then invalid NSIDs.
  EXPECT_EQ(Identify(Cns::kNamespace, 2)->DataAs<nvme::IdentifyNamespace>().nsze, 0u);
  for (uint32_t nsid : {0u, 9u, 0xffffffffu}) {
    EXPECT_EQ(Identify(Cns::kNamespace, nsid)->status(), Status::kInvalidNamespaceOrFormat);
  }
  EXPECT_EQ(Identify(Cns::kNamespaceDescriptors, 2)->status(), Status::kInvalidNamespaceOrFormat);
  auto ids = Identify(Cns::kNamespaceDescriptors, 3);
  EXPECT_EQ(ids->data[0], std::byte{2});   // NGUID
  EXPECT_EQ(ids->data[20], std::byte{3});  // UUID
  EXPECT_EQ(ids->data[24], std::byte{0x00});
  EXPECT_EQ(ids->data[25], std::byte{0x11});
  EXPECT_EQ(ids->data[40], std::byte{4});  // command set
}

TEST_F(AdminTest, IdentifyLists) {
  EXPECT_EQ(Identify(Cns::kActiveNamespaceList)->DataAs<nvme::NamespaceList>()[0], 3u);
  EXPECT_EQ(Identify(Cns::kActiveNamespaceList, 3)->DataAs<nvme::NamespaceList>()[0], 0u);
  EXPECT_EQ(Identify(Cns::kActiveNamespaceList, 0xfffffffe)->status(),
            Status::kInvalidNamespaceOrFormat);
  EXPECT_EQ(Identify(Cns::kCommandSets)->DataAs<nvme::CommandSetVectors>()[0], 1u);
  auto limits = Identify(Cns::kCommandSetController)->DataAs<nvme::NvmIdentifyController>();
  EXPECT_EQ(limits.write_zeroes_limit, 12);
  EXPECT_EQ(Identify(Cns::kCommandSetController, 0, 2u << 24)->status(), Status::kInvalidField);
  EXPECT_EQ(Identify(static_cast<Cns>(0x44))->status(), Status::kInvalidField);
}

TEST_F(AdminTest, LogPages) {
  EXPECT_EQ(Log(nvme::LogPage::kError, 64)->DataAs<nvme::ErrorLogEntry>().error_count, 0u);
  EXPECT_EQ(Log(nvme::LogPage::kSmart, 512)->DataAs<nvme::SmartLog>().power_cycles.low, 1u);
  EXPECT_EQ(Log(nvme::LogPage::kCommandsEffects, 4096)->DataAs<nvme::CommandsEffectsLog>().io[1],
            3u);
  EXPECT_EQ(Log(nvme::LogPage::kDiscovery, 1024)->status(), Status::kInvalidLogPage);
  EXPECT_EQ(Log(nvme::LogPage::kSmart, 4, 4096)->status(), Status::kInvalidField);
  EXPECT_EQ(Log(nvme::LogPage::kSmart, 4, 512)->DataAs<uint32_t>(), 0u);
  EXPECT_EQ(Log(nvme::LogPage::kSmart, 131076)->status(), Status::kInvalidField);
}

// With a thousand subsystems, a discovery log page is about one mebibyte in size.
TEST_F(AdminTest, HostsWithEqualDiscoveryLogPagesShareOne) {
  nvme::Command command = Command(AdminOpcode::kGetLogPage);
  nvme::GetLogPage{.page = nvme::LogPage::kDiscovery,
                   .retain_event = false,
                   .size_bytes = 1024,
                   .offset_bytes = 0,
                   .offset_is_index = false}
      .Encode(command);
  std::shared_ptr<const DiscoveryLog> logs[2];
  FakeQueuePair hosts[] = {{target_, *reactor_}, {target_, *reactor_}};
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(hosts[i].Connect(nvme::kDiscoveryNqn), Status::kSuccess);
    EXPECT_EQ(hosts[i].Run(command, 1024)->status(), Status::kSuccess);
    logs[i] = hosts[i].controller().discovery_log;
  }
  EXPECT_NE(logs[0], nullptr);
  EXPECT_EQ(logs[0], logs[1]);
  subsystem_->set_allow_any_host(false);
  EXPECT_EQ(hosts[1].Run(command, 1024)->status(), Status::kSuccess);
  EXPECT_NE(hosts[1].controller().discovery_log, logs[0]);
  for (FakeQueuePair& host : hosts) host.Drop();
}

TEST_F(AdminTest, FeaturesAreStored) {
  EXPECT_EQ(Set(Feature::kNumberOfQueues, 3u << 16 | 7)->completion.dw0, 3u << 16 | 3);
  EXPECT_EQ(Get(Feature::kNumberOfQueues)->completion.dw0, 3u << 16 | 3);
  EXPECT_EQ(Set(Feature::kNumberOfQueues, 0xffff)->status(), Status::kInvalidField);
  EXPECT_EQ(Set(Feature::kVolatileWriteCache, 0)->status(), Status::kSuccess);
  EXPECT_EQ(Get(Feature::kVolatileWriteCache)->completion.dw0, 0u);
  EXPECT_EQ(Set(Feature::kKeepAliveTimer, 10001)->status(), Status::kSuccess);
  EXPECT_EQ(Get(Feature::kKeepAliveTimer)->completion.dw0,
            20000u);  // rounded up to multiples of 10 s
  EXPECT_EQ(Set(Feature::kTemperatureThreshold, 0x0001015e)->status(), Status::kSuccess);
  EXPECT_EQ(Get(Feature::kTemperatureThreshold, 0x00010000)->completion.dw0, 0x15eu);
  EXPECT_EQ(Get(Feature::kHostIdentifier, 1, 16)->status(), Status::kSuccess);
  EXPECT_EQ(Get(Feature::kHostIdentifier, 0, 8)->status(), Status::kInvalidField);
  EXPECT_EQ(Get(static_cast<Feature>(0x7f))->status(), Status::kInvalidField);
  nvme::Command save =
      Command(AdminOpcode::kSetFeatures, static_cast<uint32_t>(Feature::kErrorRecovery));
  save.cdw10 |= nvme::kFeatureSave;
  EXPECT_EQ(admin_.Run(save)->status(), Status::kFeatureNotSaveable);
}

TEST_F(AdminTest, AsyncEventsAreReportedOnceUntilTheirLogPageIsRead) {
  Set(Feature::kAsyncEventConfig, nvme::kAecNamespaceAttributes);
  auto first = admin_.Begin(Command(AdminOpcode::kAsyncEventRequest));
  EXPECT_FALSE(first->answered);
  Controller& controller = admin_.controller();
  controller.async_events().NamespaceChanged(3);
  EXPECT_TRUE(first->answered);
  EXPECT_EQ(first->completion.dw0, 0x40002u);
  auto second = admin_.Begin(Command(AdminOpcode::kAsyncEventRequest));
  controller.async_events().NamespaceChanged(5);
  EXPECT_FALSE(second->answered);
  auto changed = Log(nvme::LogPage::kChangedNamespaces, 4096)->DataAs<nvme::NamespaceList>();
  EXPECT_EQ(changed[0], 3u);
  EXPECT_EQ(changed[1], 5u);
  EXPECT_TRUE(second->answered);
  EXPECT_EQ(Log(nvme::LogPage::kChangedNamespaces, 4096)->DataAs<nvme::NamespaceList>()[0], 0u);
}

TEST_F(AdminTest, AsyncEventRequestsAreLimitedAndCanBeAborted) {
  std::vector<std::shared_ptr<FakeQueuePair::FakeRequest>> requests;
  for (uint16_t i = 0; i < AsyncEvents::kRequestLimit; ++i) {
    nvme::Command command = Command(AdminOpcode::kAsyncEventRequest);
    command.cid = i;
    requests.push_back(admin_.Begin(command));
  }
  EXPECT_EQ(admin_.Run(Command(AdminOpcode::kAsyncEventRequest))->status(),
            Status::kAsyncEventRequestLimitExceeded);
  EXPECT_EQ(admin_.Run(Command(AdminOpcode::kAbort, 2u << 16))->completion.dw0, 0u);
  EXPECT_EQ(requests[2]->status(), Status::kAbortRequested);
  EXPECT_EQ(admin_.Run(Command(AdminOpcode::kAbort, 2u << 16))->completion.dw0, 1u);
  // Aborts a command in a queue that does not exist.
  EXPECT_EQ(admin_.Run(Command(AdminOpcode::kAbort, 2u << 16 | 7))->completion.dw0, 1u);
}

TEST_F(AdminTest, UnknownCommandsFail) {
  EXPECT_EQ(admin_.Run(Command(static_cast<AdminOpcode>(0xc0)))->status(), Status::kInvalidOpcode);
  EXPECT_TRUE(
      nvme::DoNotRetry(admin_.Run(Command(static_cast<AdminOpcode>(0xc0)))->completion.status));
  EXPECT_EQ(admin_.Run(Command(AdminOpcode::kIdentify, 1), 4092)->status(),
            Status::kDataSglLengthInvalid);
}

TEST_F(AdminTest, ABdevCanBeOnlyOneNamespace) {
  NamespaceOptions again;
  again.bdev_name = "disk";
  int error = 0;
  subsystem_->namespaces().Add(again, [&](auto nsid) { error = nsid.error(); });
  EXPECT_EQ(error, EPERM);
  again.bdev_name = "none";
  subsystem_->namespaces().Add(again, [&](auto nsid) { error = nsid.error(); });
  EXPECT_EQ(error, ENODEV);
  again.nsid = 9;
  subsystem_->namespaces().Add(again, [&](auto nsid) { error = nsid.error(); });
  EXPECT_EQ(error, EINVAL);
}

// So a host cannot occupy the control reactor with a full admin queue.
TEST_F(AdminTest, CommandsThatNeedTheControlReactorTakeTurns) {
  std::vector<std::shared_ptr<FakeQueuePair::FakeRequest>> requests;
  for (int i = 0; i < 20; ++i) {
    requests.push_back(admin_.Begin(LogCommand(nvme::LogPage::kSmart, 512), 512));
  }
  const auto answered = [&] {
    return std::ranges::count_if(requests, [](const auto& request) { return request->answered; });
  };
  // A task that is posted now runs after those of the commands, and a task that it posts runs after
  // their replies.
  std::optional<int64_t> after_first;
  reactor_->Post([&] { reactor_->Post([&] { after_first = answered(); }); });
  EXPECT_TRUE(
      reactor_->RunUntil([&] { return after_first.has_value(); }, std::chrono::seconds(10)));
  EXPECT_EQ(after_first, 1);
  EXPECT_TRUE(reactor_->RunUntil([&] { return answered() == 20; }, std::chrono::seconds(10)));
  for (const auto& request : requests) EXPECT_EQ(request->status(), Status::kSuccess);
}

TEST_F(AdminTest, AConnectionCanEndWhileCommandsWaitForTheirTurn) {
  for (int i = 0; i < 3; ++i) admin_.Begin(LogCommand(nvme::LogPage::kSmart, 512), 512);
  admin_.Drop();
}

TEST(HealthCacheTest, ACalculationThatTakesLongIsSeldomRepeated) {
  HealthCache cache;
  uint64_t calculations = 0;
  const auto get = [&](std::chrono::microseconds duration) {
    return cache
        .Get([&] {
          const auto start = std::chrono::steady_clock::now();
          while (std::chrono::steady_clock::now() - start < duration) {
          }
          return Health{.reads = ++calculations};
        })
        .reads;
  };
  using std::chrono::microseconds;
  const auto start = std::chrono::steady_clock::now();
  uint64_t reads = 0;
  for (int i = 0; i < 1000; ++i) reads = get(microseconds(500));
  const auto elapsed = std::chrono::steady_clock::now() - start;
  EXPECT_LE(calculations, 2 + elapsed / microseconds(50'000));
  EXPECT_EQ(reads, calculations);
}

TEST(HealthCacheTest, ACheapCalculationIsAlwaysRepeated) {
  HealthCache cache;
  uint64_t calculations = 0;
  uint64_t fresh = 0;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t before = calculations;
    cache.Get([&] { return Health{.reads = ++calculations}; });
    fresh += calculations - before;
  }
  EXPECT_GT(fresh, 100U);  // not each one, if this thread was interrupted in one of them
}

}  // namespace
}  // namespace sma::storage_target::nvmf
