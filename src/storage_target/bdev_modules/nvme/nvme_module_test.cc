// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/nvme_module.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage_target/bdev_modules/nvme/testing/module_fixture.h"

namespace sma::storage_target::bdev_nvme {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using initiator::FakeServer;
using nvme::Status;
using testing::ElementsAre;
using namespace std::chrono_literals;

constexpr ReconnectOptions kNever{0, 0, 0};

class NvmeModuleTest : public ModuleFixture {
 protected:
  void SetUp() override { server_.AddNamespace(1, 2048); }
};

// Returns a member of an object by its name.
const bdev::Value& Member(const bdev::Object& object, const std::string& name) {
  for (const auto& [key, value] : object) {
    if (key == name) return value;
  }
  static const bdev::Value kMissing("missing");
  ADD_FAILURE() << "no member " << name;
  return kMissing;
}

TEST_F(NvmeModuleTest, MakesABdevOfEachNamespace) {
  server_.AddNamespace(5, 8);
  auto names = Attach(OptionsFor("nv0", server_));
  ASSERT_TRUE(names.ok());
  EXPECT_THAT(*names, ElementsAre("nv0n1", "nv0n5"));
  const bdev::Bdev* bdev = Find("11111111-1111-1111-1111-111111111105");
  ASSERT_NE(bdev, nullptr);
  EXPECT_EQ(bdev->name(), "nv0n5");
  EXPECT_EQ(bdev->info().product_name, "NVMe disk");
  EXPECT_EQ(bdev->block_size(), 512u);
  EXPECT_EQ(bdev->block_count(), 8u);
  const bdev::Object info = bdev->DriverSpecific();
  EXPECT_EQ(std::get<std::string>(Member(info, "mp_policy")), "active_passive");
  const auto& paths = std::get<bdev::List>(Member(info, "nvme"));
  ASSERT_EQ(paths.size(), 1u);
  const auto& path = std::get<bdev::Object>(paths[0]);
  const auto& trid = std::get<bdev::Object>(Member(path, "trid"));
  EXPECT_EQ(std::get<std::string>(Member(trid, "trsvcid")), std::to_string(server_.address().port));
  const auto& controller = std::get<bdev::Object>(Member(path, "ctrlr_data"));
  EXPECT_EQ(std::get<std::string>(Member(controller, "serial_number")), "FAKE0001");
  EXPECT_EQ(std::get<uint64_t>(Member(std::get<bdev::Object>(Member(path, "ns_data")), "id")), 5u);
}

TEST_F(NvmeModuleTest, CleansUpAfterAFailedConnect) {
  server_.StopListening();
  EXPECT_EQ(Attach(OptionsFor("nv0", server_)).error(), EIO);
  RunUntil([&] { return module_.Find("nv0") == nullptr; });
}

TEST_F(NvmeModuleTest, CleansUpWhenTheHostIsRefused) {
  server_.hook = [](uint16_t, const nvme::Command&) {
    return FakeServer::Reply{.status = Status::kConnectInvalidHost};
  };
  EXPECT_EQ(Attach(OptionsFor("nv0", server_)).error(), EIO);
  RunUntil([&] { return module_.Find("nv0") == nullptr; });
}

// A discovery controller has no I/O queues, whatever its NQN.
TEST_F(NvmeModuleTest, RefusesAControllerWithoutIoQueues) {
  server_.identity.controller_type = nvme::ControllerType::kDiscovery;
  EXPECT_EQ(Attach(OptionsFor("nv0", server_)).error(), EIO);
  RunUntil([&] { return module_.Find("nv0") == nullptr; });
}

TEST_F(NvmeModuleTest, ReportsWhyASecondAttachIsRefused) {
  AttachTo(server_);
  auto refusal = [&](auto change) {
    FakeServer other(*reactor_);
    AttachOptions options = OptionsFor("nv0", other);
    change(options);
    return module_.Attach(options, [](auto) { ADD_FAILURE(); });
  };
  EXPECT_EQ(refusal([&](AttachOptions& o) { o.address = server_.address(); }),
            AttachRefusal::kSamePath);
  EXPECT_EQ(refusal([](AttachOptions& o) { o.multipath = Multipath::kDisable; }),
            AttachRefusal::kMultipathDisabled);
  EXPECT_EQ(refusal([](AttachOptions& o) { o.subnqn = "nqn.2016-06.io.spdk:x"; }),
            AttachRefusal::kOtherSubnqn);
  EXPECT_EQ(refusal([](AttachOptions& o) { o.hostnqn = ""; }), AttachRefusal::kOtherHostnqn);
  EXPECT_EQ(refusal([](AttachOptions& o) {
              o.reconnect = ReconnectOptions{10, 0, 0};
            }),
            AttachRefusal::kReconnectOptions);
}

TEST_F(NvmeModuleTest, DetachesEverything) {
  AttachTo(server_);
  TestDisk disk(registry_, *reactor_, "nv0n1");
  EXPECT_EQ(module_.Detach("nv1", {}, [] {}), ENODEV);
  EXPECT_EQ(module_.Detach("nv0", {.address = *initiator::Address::Parse("192.0.2.1", "1")}, [] {}),
            ENODEV);
  bool done = false;
  ASSERT_EQ(module_.Detach("nv0", {}, [&] { done = true; }), 0);
  EXPECT_EQ(Find("nv0n1"), nullptr);
  RunUntil([&] { return done; });
  EXPECT_EQ(disk.events.removals, 1);
  EXPECT_EQ(module_.Find("nv0"), nullptr);
  RunUntil([&] { return server_.connection_count() == 0; });
  EXPECT_EQ(module_.Detach("nv0", {}, [] {}), ENODEV);
}

TEST_F(NvmeModuleTest, TransfersDataOfEverySize) {
  AttachTo(server_);
  TestDisk disk(registry_, *reactor_, "nv0n1");
  // Writes 600 KiB with at most 128 KiB per command, from buffers that end in the middle of
  // commands.
  TestIo write(IoType::kWrite, 100, 1200, 512);
  for (size_t i = 0; i < write.data.size(); ++i) write.data[i] = std::byte(i * 11 + i / 509);
  std::vector<iovec> buffers;
  for (size_t at = 0; at < write.data.size();) {
    size_t size = std::min<size_t>(100000, write.data.size() - at);
    buffers.push_back({write.data.data() + at, size});
    at += size;
  }
  write.iovs = buffers.data();
  write.iov_count = static_cast<uint32_t>(buffers.size());
  EXPECT_EQ(RunIo(*disk.channel, write), IoStatus::kOk);
  TestIo read(IoType::kRead, 100, 1200, 512);
  EXPECT_EQ(RunIo(*disk.channel, read), IoStatus::kOk);
  EXPECT_TRUE(read.data == write.data);

  TestIo compare(IoType::kCompare, 100, 1200, 512);
  compare.data = write.data;
  compare.iov = {compare.data.data(), compare.data.size()};
  EXPECT_EQ(RunIo(*disk.channel, compare), IoStatus::kOk);
  compare.data[500000] ^= std::byte{1};
  compare.result.reset();
  EXPECT_EQ(RunIo(*disk.channel, compare), IoStatus::kMiscompare);

  TestIo zeroes(IoType::kWriteZeroes, 0, 1, 512);
  zeroes.block_count = 2000;
  EXPECT_EQ(RunIo(*disk.channel, zeroes), IoStatus::kOk);
  EXPECT_TRUE(server_.namespaces[1].content == std::string(2048 * 512, '\0'));
  for (IoType type : {IoType::kUnmap, IoType::kFlush}) {
    TestIo io(type, 0, 8, 512);
    EXPECT_EQ(RunIo(*disk.channel, io), IoStatus::kOk);
  }
}

TEST_F(NvmeModuleTest, EncodesUnmapRanges) {
  std::vector<nvme::DsmRange> ranges;
  AttachTo(server_);
  TestDisk disk(registry_, *reactor_, "nv0n1");
  server_.data_hook = [&](const nvme::Command& command, std::string_view data) {
    if (command.opcode != static_cast<uint8_t>(nvme::IoOpcode::kDatasetManagement)) return;
    EXPECT_EQ(command.cdw11, nvme::kDsmDeallocate);
    nvme::DsmRange range;
    ASSERT_EQ(data.size(), sizeof range);
    std::memcpy(&range, data.data(), sizeof range);
    ranges.push_back(range);
  };
  TestIo unmap(IoType::kUnmap, 7, 1, 512);
  unmap.block_count = 1000;
  EXPECT_EQ(RunIo(*disk.channel, unmap), IoStatus::kOk);
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].lba, 7u);
  EXPECT_EQ(ranges[0].block_count, 1000u);
}

TEST_F(NvmeModuleTest, FollowsTheNamespacesOfTheRemote) {
  AttachTo(server_);
  server_.AddNamespace(2, 8);
  SendNamespaceEvent(server_);
  RunUntil([&] { return Find("nv0n2") != nullptr; });

  TestDisk disk(registry_, *reactor_, "nv0n1");
  FakeServer::Namespace kept = server_.namespaces[1];
  server_.namespaces.erase(1);
  SendNamespaceEvent(server_);
  RunUntil([&] { return Find("nv0n1") == nullptr; });
  EXPECT_EQ(disk.events.removals, 1);
  EXPECT_NE(Find("nv0n2"), nullptr);

  server_.namespaces[1] = kept;
  SendNamespaceEvent(server_);
  RunUntil([&] { return Find("nv0n1") != nullptr; });
}

TEST_F(NvmeModuleTest, FollowsTheSizeOfANamespace) {
  AttachTo(server_);
  TestDisk disk(registry_, *reactor_, "nv0n1");
  server_.namespaces[1].content.resize(4096 * 512);
  SendNamespaceEvent(server_);
  RunUntil([&] { return Find("nv0n1")->block_count() == 4096; });
  EXPECT_EQ(disk.events.resizes, 1);
}

TEST_F(NvmeModuleTest, TreatsANamespaceWithAnotherUuidAsAnotherDisk) {
  AttachTo(server_);
  TestDisk disk(registry_, *reactor_, "nv0n1");
  server_.namespaces[1].uuid = *base::Uuid::ParseHex("22222222222222222222222222222222");
  SendNamespaceEvent(server_);
  RunUntil([&] { return Find("22222222-2222-2222-2222-222222222222") != nullptr; });
  EXPECT_EQ(disk.events.removals, 1);
}

TEST_F(NvmeModuleTest, DerivesAStableUuidForANamespaceWithoutOne) {
  server_.namespaces[1].uuid = base::Uuid();
  AttachTo(server_);
  const base::Uuid uuid = Find("nv0n1")->info().uuid;
  EXPECT_FALSE(uuid.is_nil());
  Detach("nv0");
  AttachTo(server_);
  EXPECT_EQ(Find("nv0n1")->info().uuid, uuid);
}

TEST_F(NvmeModuleTest, DoesNotReplaceBdevsOfTheSameNameOrUuid) {
  AttachTo(server_);
  FakeServer twin(*reactor_);
  twin.AddNamespace(1, 8);  // with the same UUID
  AttachOptions options = OptionsFor("nv1", twin);
  options.subnqn = "nqn.2016-06.io.spdk:twin";
  auto names = Attach(options);
  ASSERT_TRUE(names.ok());
  EXPECT_THAT(*names, ElementsAre());
  EXPECT_EQ(Find("11111111-1111-1111-1111-111111111101")->name(), "nv0n1");
}

// A failing command and its expected result.
struct Failure {
  uint16_t status;
  int times;  // before a success
  IoStatus result;
};
class FailureTest : public NvmeModuleTest, public testing::WithParamInterface<Failure> {};

TEST_P(FailureTest, HasTheExpectedStatus) {
  AttachTo(server_);
  TestDisk disk(registry_, *reactor_, "nv0n1");
  int left = GetParam().times;
  server_.hook = [&](uint16_t queue_id, const nvme::Command& command) {
    bool is_read = queue_id != 0 && command.opcode == static_cast<uint8_t>(nvme::IoOpcode::kRead);
    std::optional<FakeServer::Reply> reply;
    if (is_read && left-- > 0) reply = FakeServer::Reply{.raw_status = GetParam().status};
    return reply;
  };
  TestIo read(IoType::kRead, 0, 1, 512);
  EXPECT_EQ(RunIo(*disk.channel, read), GetParam().result);
}

constexpr int kAlways = 1000;
INSTANTIATE_TEST_SUITE_P(
    All, FailureTest,
    testing::Values(
        Failure{nvme::StatusField(Status::kNamespaceNotReady), 3, IoStatus::kOk},
        Failure{nvme::StatusField(Status::kNamespaceNotReady), kAlways, IoStatus::kFailed},
        Failure{nvme::StatusField(Status::kNamespaceNotReady, true), 1, IoStatus::kFailed},
        Failure{nvme::StatusField(Status::kUnrecoveredReadError, true), 1, IoStatus::kFailed},
        Failure{nvme::StatusField(Status::kLbaOutOfRange), 1, IoStatus::kOutOfRange},
        Failure{nvme::StatusField(Status::kNamespaceWriteProtected), 1, IoStatus::kReadOnly},
        Failure{nvme::StatusField(Status::kCapacityExceeded), 1, IoStatus::kNoSpace},
        Failure{nvme::StatusField(Status::kInvalidOpcode), 1, IoStatus::kUnsupported}));

TEST(ReconnectOptionsTest, MustBeConsistent) {
  using O = ReconnectOptions;
  for (const O& good :
       {O{0, 0, 0}, O{-1, 1, 0}, O{-1, 1, 5}, O{10, 2, 0}, O{10, 2, 5}, O{2, 2, 2}}) {
    EXPECT_TRUE(good.IsValid()) << good.ctrlr_loss_timeout_sec << good.reconnect_delay_sec;
  }
  for (const O& bad : {O{-2, 1, 0}, O{0, 1, 0}, O{0, 0, 1}, O{-1, 0, 0}, O{5, 0, 0}, O{5, 6, 0},
                       O{5, 2, 1}, O{5, 2, 6}}) {
    EXPECT_FALSE(bad.IsValid()) << bad.ctrlr_loss_timeout_sec << bad.reconnect_delay_sec;
  }
}

TEST(BackOffTest, GrowsUpToItsLimit) {
  BackOff back_off(2s);
  EXPECT_EQ(back_off.Next(), 0ms);
  std::chrono::milliseconds limit = 100ms;
  for (int i = 0; i < 10; ++i) {
    auto pause = back_off.Next();
    EXPECT_LE(pause, limit);
    EXPECT_GE(pause, limit * 3 / 4);
    limit = std::min<std::chrono::milliseconds>(limit * 2, 2s);
  }
  back_off.Reset();
  EXPECT_EQ(back_off.Next(), 0ms);
}

TEST_F(NvmeModuleTest, OptionsCannotChangeWhileAttached) {
  ModuleOptions options;
  options.reconnect = {1, 5, 0};
  EXPECT_EQ(module_.SetOptions(options), EINVAL);
  options.reconnect = kNever;
  EXPECT_EQ(module_.SetOptions(options), 0);
  AttachTo(server_);
  EXPECT_EQ(module_.Find("nv0")->paths()[0]->options().reconnect, kNever);
  EXPECT_EQ(module_.SetOptions(options), EPERM);
}

TEST_F(NvmeModuleTest, SavesItsConfiguration) {
  AttachOptions options = OptionsFor("nv0", server_);
  options.header_digest = false;
  options.reconnect = kNever;
  ASSERT_TRUE(Attach(options).ok());
  std::vector<bdev::ConfigCall> calls;
  module_.SaveConfig(calls);
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_EQ(calls[0].method, "bdev_nvme_set_options");
  EXPECT_EQ(calls[1].method, "bdev_nvme_attach_controller");
  EXPECT_EQ(std::get<std::string>(Member(calls[1].params, "hostnqn")), kHostNqn);
  EXPECT_EQ(std::get<int64_t>(Member(calls[1].params, "ctrlr_loss_timeout_sec")), 0);
}

}  // namespace
}  // namespace sma::storage_target::bdev_nvme
