// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "devices/nvmf_tcp/params.h"
#include "devices/nvmf_tcp/testing/nvmf_tcp_fixture.h"

namespace sma::nvmf_tcp {
namespace {

using jsonrpc::Request;
using spdk::Fault;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

TEST_F(NvmfTcpTest, CreateWithVolumeTakesOneRoundTrip) {
  DeviceVolume volume = Volume(kVolume);
  auto attachment = manager_.CreateDevice(context_, device_, &volume);
  ASSERT_TRUE(attachment.ok()) << attachment.status();
  EXPECT_EQ(attachment->attachment, At(1, kVolume));
  EXPECT_EQ(target_.round_trips(), 1u);
  const Json subsystem = Subsystem();
  EXPECT_EQ(subsystem["hosts"], Json::parse(R"([{"nqn":"nqn.2016-06.io.spdk:host0"}])"));
  EXPECT_EQ(subsystem["allow_any_host"], false);
  EXPECT_EQ(subsystem["listen_addresses"][0]["trsvcid"], "4420");
  EXPECT_EQ(subsystem["namespaces"][0]["uuid"], kVolume);
  EXPECT_EQ(subsystem["namespaces"][0]["nguid"], "00000001111142228333444444444444");
}

TEST_F(NvmfTcpTest, TransportIsCreatedOncePerConnection) {
  EXPECT_TRUE(manager_.Prepare(context_).ok());
  EXPECT_EQ(target_.calls(), 0u);
  target_.Restart();
  EXPECT_TRUE(manager_.CreateDevice(context_, device_, nullptr).ok());
  EXPECT_THAT(target_.methods()[0], "nvmf_create_transport");
}

TEST_F(NvmfTcpTest, NameIsQueriedUnlessKnownToBeUnused) {
  auto existing = manager_.FindExisting(context_, device_);
  ASSERT_TRUE(existing.ok());
  EXPECT_FALSE(existing->has_value());
  EXPECT_EQ(target_.calls(), 0u);
  target_.SetDown(true);
  target_.SetDown(false);
  EXPECT_FALSE((*manager_.FindExisting(context_, device_)).has_value());
  EXPECT_EQ(target_.calls(), 1u);
}

TEST_F(NvmfTcpTest, EqualDeviceIsFoundAndNotChanged) {
  CreateAsOperator();
  AddNamespaceAsOperator(kVolume);
  ASSERT_TRUE(manager_.List(context_).ok());
  const std::string before = target_.Dump();
  auto existing = manager_.FindExisting(context_, device_);
  ASSERT_TRUE(existing.ok() && *existing) << existing.status();
  ASSERT_THAT((*existing)->volumes, SizeIs(1));
  EXPECT_EQ((*existing)->volumes[0].id.ToString(), kVolume);
  EXPECT_EQ((*existing)->volumes[0].attachment, At(1, kVolume));
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(NvmfTcpTest, DifferentDeviceWithTheNameIsRefused) {
  CreateAsOperator();
  ASSERT_TRUE(manager_.List(context_).ok());
  for (const DeviceSpec& other : {Describe("4421"), Describe("4420", true)}) {
    EXPECT_EQ(manager_.FindExisting(context_, other).status().code(),
              absl::StatusCode::kAlreadyExists);
  }
  Operator("nvmf_subsystem_add_host", {{"nqn", kNqn}, {"host", "nqn.2016-06.io.spdk:host1"}});
  EXPECT_EQ(manager_.FindExisting(context_, device_).status().code(),
            absl::StatusCode::kAlreadyExists);
}

// Another client creates the subsystem between the agent's query and its calls: parts added by the
// agent are removed.
TEST_F(NvmfTcpTest, LostRaceForANameIsRolledBack) {
  Operator("nvmf_create_subsystem", {{"nqn", kNqn}, {"allow_any_host", true}});
  const std::string before = target_.Dump();
  DeviceVolume volume = Volume(kVolume);
  Outcome outcome = manager_.CreateDevice(context_, device_, &volume).outcome();
  EXPECT_EQ(outcome.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(outcome.is_settled());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(NvmfTcpTest, LostRaceKeepsExistingParts) {
  CreateAsOperator();
  AddNamespaceAsOperator(kOther);
  const std::string before = target_.Dump();
  DeviceVolume volume = Volume(kVolume);
  EXPECT_FALSE(manager_.CreateDevice(context_, device_, &volume).ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(NvmfTcpTest, EachRefusedStepIsRolledBack) {
  DeviceVolume volume = Volume(kVolume);
  for (uint64_t failing = 0; failing < 4; ++failing) {
    target_.ResetCounts();
    target_.SetFaultPlan([failing](uint64_t index, const Request&) {
      return index == failing ? Fault::kRefuse : Fault::kNone;
    });
    auto attachment = manager_.CreateDevice(context_, device_, &volume);
    EXPECT_FALSE(attachment.ok()) << failing;
    EXPECT_TRUE(attachment.outcome().is_settled()) << failing;
    EXPECT_EQ(target_.Dump(), empty_) << failing;
  }
}

TEST_F(NvmfTcpTest, LostAnswersAreRolledBackLater) {
  DeviceVolume volume = Volume(kVolume);
  for (Fault fault : {Fault::kLoseAnswer, Fault::kDropCall}) {
    bool failed = true;
    for (uint64_t failing = 0; failed; ++failing) {
      target_.ResetCounts();
      failed = false;
      target_.SetFaultPlan([&, failing](uint64_t index, const Request&) {
        failed |= index == failing;
        return index == failing ? fault : Fault::kNone;
      });
      Outcome outcome = manager_.CreateDevice(context_, device_, &volume).outcome();
      target_.SetFaultPlan(nullptr);
      EXPECT_EQ(outcome.ok(), !failed) << failing;
      if (!outcome.ok() && outcome.is_settled()) {
        EXPECT_EQ(target_.Dump(), empty_) << failing;
      }
      EXPECT_TRUE(manager_.UndoCreate(context_, device_, &volume).ok()) << failing;
      EXPECT_EQ(target_.Dump(), empty_) << failing;
    }
  }
}

TEST_F(NvmfTcpTest, UndoKeepsObjectsOfOthers) {
  DeviceVolume volume = Volume(kVolume);
  CreateAsOperator();
  AddNamespaceAsOperator(kOther);
  const std::string before = target_.Dump();
  EXPECT_TRUE(manager_.UndoCreate(context_, device_, &volume).ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(NvmfTcpTest, CancelledCallIsRolledBack) {
  target_.SetRoundTrip(std::chrono::milliseconds(30));
  DeviceVolume volume = Volume(kVolume);
  Context context = Context::WithTimeout(std::chrono::milliseconds(10));
  EXPECT_EQ(manager_.CreateDevice(context, device_, &volume).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(NvmfTcpTest, VolumeThatDoesNotAppearIsNotFound) {
  DeviceVolume volume = Volume("00000009-1111-4222-8333-444444444444");
  volume.wait = std::chrono::milliseconds(5);
  EXPECT_EQ(manager_.CreateDevice(context_, device_, &volume).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(target_.Dump(), empty_);
}

class AttachTest : public NvmfTcpTest {
 protected:
  void SetUp() override {
    NvmfTcpTest::SetUp();
    ASSERT_TRUE(manager_.CreateDevice(context_, device_, nullptr).ok());
    without_volume_ = target_.Dump();
    target_.ResetCounts();
  }

  std::string without_volume_;
};

TEST_F(AttachTest, AttachTakesOneRoundTripAndDetachTwo) {
  auto attachment = manager_.AttachVolume(context_, device_, Volume(kVolume));
  ASSERT_TRUE(attachment.ok()) << attachment.status();
  EXPECT_EQ(*attachment, At(1, kVolume));
  EXPECT_EQ(target_.round_trips(), 1u);
  EXPECT_THAT(Subsystem()["namespaces"], SizeIs(1));
  // Nothing is removed before it is known to belong to the volume.
  EXPECT_TRUE(manager_.DetachVolume(context_, device_, Volume(kVolume, "1")).ok());
  EXPECT_EQ(target_.round_trips(), 3u);
  EXPECT_EQ(target_.Dump(), without_volume_);
}

TEST_F(AttachTest, RepeatedCallsSucceed) {
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(*manager_.AttachVolume(context_, device_, Volume(kVolume)), At(1, kVolume));
  }
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(manager_.DetachVolume(context_, device_, Volume(kVolume, "1")).ok());
  }
  EXPECT_EQ(target_.Dump(), without_volume_);
}

TEST_F(AttachTest, ErrorsNameTheReason) {
  EXPECT_EQ(manager_.AttachVolume(context_, device_, Volume("00000009-1111-4222-8333-444444444444"))
                .status()
                .code(),
            absl::StatusCode::kNotFound);
  Operator("nvmf_create_subsystem", {{"nqn", "nqn.2016-06.io.spdk:x"}});
  Operator("nvmf_subsystem_add_ns",
           {{"nqn", "nqn.2016-06.io.spdk:x"}, {"namespace", {{"bdev_name", kVolume}}}});
  absl::Status status = manager_.AttachVolume(context_, device_, Volume(kVolume)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr(kVolume));
}

TEST_F(AttachTest, FullSubsystemIsDistinguished) {
  for (int i = 0; i < 32; ++i) {
    std::string uuid = "000001" + std::to_string(10 + i) + "-1111-4222-8333-444444444444";
    target_.AddBdev(uuid);
    ASSERT_TRUE(manager_.AttachVolume(context_, device_, Volume(uuid.c_str())).ok());
  }
  EXPECT_EQ(manager_.AttachVolume(context_, device_, Volume(kVolume)).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(AttachTest, BdevThatAppearsLateIsAttached) {
  DeviceVolume volume = Volume("00000009-1111-4222-8333-444444444444");
  volume.wait = std::chrono::seconds(20);
  std::thread maker([&] {
    while (target_.calls() < 3) std::this_thread::yield();
    target_.AddBdev("00000009-1111-4222-8333-444444444444");
  });
  auto attachment = manager_.AttachVolume(context_, device_, volume);
  maker.join();
  EXPECT_TRUE(attachment.ok()) << attachment.status();
  EXPECT_THAT(Subsystem()["namespaces"], SizeIs(1));
}

TEST_F(AttachTest, CancelledCallIsRolledBack) {
  target_.SetRoundTrip(std::chrono::milliseconds(30));
  Context context = Context::WithTimeout(std::chrono::milliseconds(10));
  EXPECT_EQ(manager_.AttachVolume(context, device_, Volume(kVolume)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(target_.Dump(), without_volume_);
}

// The volume's bdev was removed, and its NSID was then assigned to another namespace.
TEST_F(AttachTest, DetachKeepsANamespaceWithTheReusedNsid) {
  ASSERT_TRUE(manager_.AttachVolume(context_, device_, Volume(kVolume)).ok());
  Operator("bdev_null_delete", {{"name", kVolume}});
  AddNamespaceAsOperator(kOther);
  const std::string before = target_.Dump();
  EXPECT_TRUE(manager_.DetachVolume(context_, device_, Volume(kVolume, "1")).ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(AttachTest, DetachFindsAVolumeThatMoved) {
  AddNamespaceAsOperator(kOther);
  ASSERT_EQ(*manager_.AttachVolume(context_, device_, Volume(kVolume)), At(2, kVolume));
  EXPECT_TRUE(manager_.DetachVolume(context_, device_, Volume(kVolume, "1")).ok());
  EXPECT_THAT(Subsystem()["namespaces"], SizeIs(1));
  EXPECT_EQ(Subsystem()["namespaces"][0]["uuid"], kOther);
  EXPECT_TRUE(manager_.DetachVolume(context_, device_, Volume(kVolume)).ok());
}

TEST_F(AttachTest, Defect11_ErrorIsNotAbsence) {
  ASSERT_TRUE(manager_.AttachVolume(context_, device_, Volume(kVolume)).ok());
  target_.SetFaultPlan([](uint64_t, const Request&) { return Fault::kRefuse; });
  EXPECT_FALSE(manager_.DetachVolume(context_, device_, Volume(kVolume, "1")).ok());
  EXPECT_FALSE(manager_.DetachVolume(context_, device_, Volume(kVolume)).ok());
  EXPECT_FALSE(manager_.DeleteDevice(context_, device_, {}).ok());
  EXPECT_FALSE(manager_.UndoCreate(context_, device_, nullptr).ok());
  EXPECT_FALSE(manager_.List(context_).ok());
}

TEST_F(AttachTest, DeleteRemovesTheNamespaces) {
  ASSERT_TRUE(manager_.AttachVolume(context_, device_, Volume(kVolume)).ok());
  target_.ResetCounts();
  EXPECT_TRUE(manager_.DeleteDevice(context_, device_, {}).ok());
  EXPECT_EQ(target_.round_trips(), 2u);
  EXPECT_EQ(target_.Dump(), empty_);
  EXPECT_TRUE(manager_.DeleteDevice(context_, device_, {}).ok());
}

class RestoreTest : public AttachTest {
 protected:
  void SetUp() override {
    AttachTest::SetUp();
    ASSERT_TRUE(manager_.AttachVolume(context_, device_, Volume(kOther)).ok());
    ASSERT_TRUE(manager_.AttachVolume(context_, device_, Volume(kVolume)).ok());
    ASSERT_TRUE(manager_.DetachVolume(context_, device_, Volume(kOther, "1")).ok());
    complete_ = target_.Dump();
  }

  RestoreResult Restore(bool repair = true, bool expose_incomplete = true,
                        const DeviceListing* listing = nullptr) {
    return manager_.Restore(context_, {.device = device_,
                                       .volumes = volumes_,
                                       .listing = listing,
                                       .repair = repair,
                                       .expose_incomplete = expose_incomplete});
  }
  void RestartTarget() {
    target_.Restart();
    ASSERT_TRUE(manager_.Prepare(context_).ok());
  }

  std::vector<DeviceVolume> volumes_{Volume(kVolume, "2")};
  std::string complete_;
};

TEST_F(RestoreTest, CompleteDeviceTakesOneQuery) {
  target_.ResetCounts();
  RestoreResult result = Restore();
  EXPECT_TRUE(result.status.ok());
  EXPECT_THAT(result.differences, IsEmpty());
  EXPECT_EQ(*result.volumes[0].attachment, At(2, kVolume));
  EXPECT_FALSE(result.volumes[0].attached_again);
  EXPECT_EQ(target_.round_trips(), 1u);
  EXPECT_EQ(target_.Dump(), complete_);
}

TEST_F(RestoreTest, EachMissingPartIsRecreated) {
  struct Removal {
    const char* method;
    Json params;
  };
  const Removal removals[] = {
      {"nvmf_subsystem_remove_host", {{"nqn", kNqn}, {"host", kHost}}},
      {"nvmf_subsystem_remove_listener", {{"nqn", kNqn}, {"listen_address", Address("4420")}}},
      {"nvmf_subsystem_remove_ns", {{"nqn", kNqn}, {"nsid", 2}}},
      {"nvmf_delete_subsystem", {{"nqn", kNqn}}},
  };
  for (const Removal& removal : removals) {
    Operator(removal.method, removal.params);
    const std::string broken = target_.Dump();
    EXPECT_FALSE(Restore(/*repair=*/false).differences.empty()) << removal.method;
    EXPECT_EQ(target_.Dump(), broken) << removal.method;
    RestoreResult result = Restore();
    EXPECT_TRUE(result.status.ok()) << removal.method << result.status;
    EXPECT_THAT(result.differences, SizeIs(1)) << removal.method;
    EXPECT_EQ(*result.volumes[0].attachment, At(2, kVolume)) << removal.method;
    EXPECT_EQ(target_.Dump(), complete_) << removal.method;
  }
}

TEST_F(RestoreTest, OperatorsAdditionsStay) {
  Operator("nvmf_subsystem_add_host", {{"nqn", kNqn}, {"host", "nqn.2016-06.io.spdk:host9"}});
  Operator("nvmf_subsystem_add_listener", {{"nqn", kNqn}, {"listen_address", Address("4499")}});
  AddNamespaceAsOperator(kOther);
  const std::string before = target_.Dump();
  EXPECT_TRUE(Restore().status.ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(RestoreTest, AnyHostIsAllowedAgainAndNeverForbidden) {
  Operator("nvmf_subsystem_allow_any_host", {{"nqn", kNqn}, {"allow_any_host", true}});
  EXPECT_THAT(Restore().differences, SizeIs(1));
  EXPECT_EQ(Subsystem()["allow_any_host"], true);
  device_.params = Describe("4420", true).params;
  Operator("nvmf_subsystem_allow_any_host", {{"nqn", kNqn}, {"allow_any_host", false}});
  EXPECT_THAT(Restore().differences, SizeIs(1));
  EXPECT_EQ(Subsystem()["allow_any_host"], true);
}

TEST_F(RestoreTest, EmptyTargetIsRestoredWithTheSameNsids) {
  RestartTarget();
  target_.AddBdev(kVolume);
  target_.AddBdev(kOther);
  auto listing = manager_.List(context_);
  ASSERT_TRUE(listing.ok());
  RestoreResult result = Restore(true, true, listing->get());
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_TRUE(result.volumes[0].attached_again);
  EXPECT_EQ(*result.volumes[0].attachment, At(2, kVolume));
  EXPECT_EQ(target_.Dump(), complete_);
}

// A host that reconnects to a subsystem without its namespace treats the namespace as removed.
TEST_F(RestoreTest, ListenerWaitsForTheVolumes) {
  RestartTarget();
  RestoreResult result = Restore(true, /*expose_incomplete=*/false);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kInvalidArgument) << result.status;
  EXPECT_FALSE(result.volumes[0].attachment.ok());
  EXPECT_THAT(Subsystem()["listen_addresses"], IsEmpty());
  target_.AddBdev(kVolume);
  EXPECT_TRUE(Restore(true, false).status.ok());
  EXPECT_THAT(Subsystem()["listen_addresses"], SizeIs(1));
}

TEST_F(RestoreTest, DeviceIsFinallyExposedWithoutItsVolumes) {
  RestartTarget();
  RestoreResult result = Restore(true, /*expose_incomplete=*/true);
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_FALSE(result.volumes[0].attachment.ok());
  EXPECT_THAT(Subsystem()["listen_addresses"], SizeIs(1));
}

TEST_F(RestoreTest, NsidThatIsTakenIsReplaced) {
  Operator("nvmf_subsystem_remove_ns", {{"nqn", kNqn}, {"nsid", 2}});
  Operator("nvmf_subsystem_add_ns",
           {{"nqn", kNqn}, {"namespace", {{"bdev_name", kOther}, {"nsid", 2}}}});
  RestoreResult result = Restore();
  ASSERT_TRUE(result.volumes[0].attachment.ok()) << result.volumes[0].attachment.status();
  EXPECT_EQ(*result.volumes[0].attachment, At(1, kVolume));
}

TEST_F(RestoreTest, TargetDownIsUnavailable) {
  target_.SetDown(true);
  RestoreResult result = Restore();
  EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(result.volumes[0].attachment.ok());
}

TEST_F(RestoreTest, CandidatesForAdoption) {
  Operator("nvmf_create_subsystem", {{"nqn", "nqn.2016-06.io.spdk:bare"}});
  auto listing = manager_.List(context_);
  ASSERT_TRUE(listing.ok());
  auto candidates = manager_.ListAdoptionCandidates(**listing, {});
  ASSERT_THAT(candidates, SizeIs(2));
  EXPECT_EQ(candidates[0].device.handle, "nvmf-tcp:nqn.2016-06.io.spdk:bare");
  EXPECT_FALSE(candidates[0].obstacle.empty());
  EXPECT_EQ(candidates[1].device.handle, device_.handle);
  EXPECT_EQ(candidates[1].obstacle, "");
  EXPECT_EQ(candidates[1].device.params.SerializeAsString(), device_.params.SerializeAsString());
  ASSERT_THAT(candidates[1].volumes, SizeIs(1));
  EXPECT_EQ(candidates[1].volumes[0].id.ToString(), kVolume);
  const std::string known[] = {device_.handle};
  EXPECT_THAT(manager_.ListAdoptionCandidates(**listing, known), SizeIs(1));
}

class LimitsTest : public AttachTest {
 protected:
  Outcome Set(uint64_t rw_iops, uint64_t rd, uint64_t wr, uint64_t rw) {
    QosLimit limits;
    limits.set_rw_iops(rw_iops);
    limits.set_rd_bandwidth(rd);
    limits.set_wr_bandwidth(wr);
    limits.set_rw_bandwidth(rw);
    DeviceVolume volume = Volume(kVolume);
    return manager_.SetQos(context_, device_, &volume, limits);
  }
  Json Limits() {
    return (*target_.Operator("bdev_get_bdevs", {{"name", kVolume}}))[0]["assigned_rate_limits"];
  }
};

TEST_F(LimitsTest, AreConvertedToTheTargetsUnitsOrKept) {
  ASSERT_TRUE(Set(1, 2, 3, 4).ok());
  EXPECT_EQ(Limits(), Json::parse(R"({"rw_ios_per_sec":1000,"r_mbytes_per_sec":2,
                                      "w_mbytes_per_sec":3,"rw_mbytes_per_sec":4})"));
  ASSERT_TRUE(Set(UINT64_MAX, 0, UINT64_MAX, 9).ok());
  EXPECT_EQ(Limits(), Json::parse(R"({"rw_ios_per_sec":1000,"r_mbytes_per_sec":0,
                                      "w_mbytes_per_sec":3,"rw_mbytes_per_sec":9})"));
}

TEST_F(LimitsTest, Defect26_ThousandsDoNotOverflow) {
  EXPECT_EQ(Set(UINT64_MAX / 1000 + 1, 0, 0, 0).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Set(0, uint64_t{1} << 44, 0, 0).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(target_.calls(), 0u);
  EXPECT_TRUE(Set(UINT64_MAX / 1000, (uint64_t{1} << 44) - 1, 0, 0).ok());
}

TEST_F(LimitsTest, RequestIsRepeatedForABusyTarget) {
  target_.SetFaultPlan(
      [](uint64_t index, const Request&) { return index < 2 ? Fault::kBusy : Fault::kNone; });
  EXPECT_TRUE(Set(1, 0, 0, 0).ok());
  EXPECT_EQ(target_.calls(), 3u);
}

TEST_F(LimitsTest, AreNotSupportedForADevice) {
  EXPECT_EQ(manager_.SetQos(context_, device_, nullptr, {}).code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_FALSE(manager_.GetQosCapabilities(context_)->has_max_device_caps());
  EXPECT_TRUE(manager_.GetQosCapabilities(context_)->max_volume_caps().rw_iops());
  EXPECT_FALSE(manager_.GetQosCapabilities(context_)->max_volume_caps().rd_iops());
}

// SPDK's answers are limited to 32 MiB, so a large number of devices is queried by name.
TEST_F(NvmfTcpTest, Defect56_ManyDevicesAreListedInPortions) {
  constexpr int kMany = 600;
  std::vector<std::string> handles;
  for (int i = 0; i < kMany; ++i) {
    const std::string nqn = "nqn.2016-06.io.spdk:many-" + std::to_string(i);
    handles.push_back(HandleOf(nqn));
    if (i > 0) Operator("nvmf_create_subsystem", {{"nqn", nqn}});
  }
  target_.SetFaultPlan([&](uint64_t, const jsonrpc::Request& request) {
    EXPECT_TRUE(request.params.is_object() && request.params.contains("nqn"));
    return spdk::Fault::kNone;
  });
  target_.ResetCounts();
  auto listing = manager_.ListOf(context_, handles);
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_EQ(target_.calls(), static_cast<size_t>(kMany));
  EXPECT_LE(target_.round_trips(), 5u);
  EXPECT_EQ(manager_.FingerprintOf(**listing, handles[0]), 0u) << "it is missing";
  EXPECT_NE(manager_.FingerprintOf(**listing, handles[1]), 0u);
  target_.SetFaultPlan(nullptr);
  // A small number of devices is queried with one listing.
  target_.ResetCounts();
  ASSERT_TRUE(manager_.ListOf(context_, std::span(handles).first(10)).ok());
  EXPECT_EQ(target_.calls(), 1u);
}

TEST_F(NvmfTcpTest, AFingerprintDiffersWhenTheSubsystemDoes) {
  const std::string handle = device_.handle;
  std::set<uint64_t> seen;
  auto is_new = [&] {
    auto listing = manager_.List(context_);
    return listing.ok() && seen.insert(manager_.FingerprintOf(**listing, handle)).second;
  };
  CreateAsOperator();
  EXPECT_TRUE(is_new());
  EXPECT_FALSE(is_new());
  AddNamespaceAsOperator(kVolume);
  EXPECT_TRUE(is_new());
  AddNamespaceAsOperator(kOther);
  EXPECT_TRUE(is_new());
  Operator("nvmf_subsystem_add_host", {{"nqn", kNqn}, {"host", "nqn.2016-06.io.spdk:other"}});
  EXPECT_TRUE(is_new());
  Operator("nvmf_subsystem_add_listener", {{"nqn", kNqn}, {"listen_address", Address("4421")}});
  EXPECT_TRUE(is_new());
  Operator("nvmf_subsystem_allow_any_host", {{"nqn", kNqn}, {"allow_any_host", true}});
  EXPECT_TRUE(is_new());
  Operator("nvmf_delete_subsystem", {{"nqn", kNqn}});
  EXPECT_TRUE(is_new());
}

}  // namespace
}  // namespace sma::nvmf_tcp
