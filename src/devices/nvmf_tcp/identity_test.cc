// SPDX-License-Identifier: Apache-2.0

// Tests which objects on the target belong to the agent, and which volume a namespace exports.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "devices/nvmf_tcp/testing/nvmf_tcp_fixture.h"

namespace sma::nvmf_tcp {
namespace {

using jsonrpc::Request;
using spdk::Fault;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr char kTenantsHost[] = "nqn.2016-06.io.spdk:host0";
constexpr char kOperatorsHost[] = "nqn.2016-06.io.spdk:operators-host";

class IdentityTest : public NvmfTcpTest {
 protected:
  void CreateDevice(const DeviceVolume* volume = nullptr) {
    auto attachment = manager_.CreateDevice(context_, device_, volume);
    ASSERT_TRUE(attachment.ok()) << attachment.status();
    attachment_ = attachment->attachment;
  }
  // An operator deletes the subsystem and creates another one with its NQN.
  void ReplaceSubsystem(const char* bdev = nullptr) {
    Operator("nvmf_delete_subsystem", {{"nqn", kNqn}});
    Operator("nvmf_create_subsystem", {{"nqn", kNqn}, {"serial_number", "OPERATOR"}});
    Operator("nvmf_subsystem_add_host", {{"nqn", kNqn}, {"host", kOperatorsHost}});
    Operator("nvmf_subsystem_add_listener", {{"nqn", kNqn}, {"listen_address", Address("4499")}});
    if (bdev != nullptr) AddNamespaceAsOperator(bdev);
    replaced_ = target_.Dump();
  }
  // An operator exports `bdev` in the device's subsystem with the UUID of another bdev.
  void AddImpostor(const char* bdev, const char* uuid) {
    Operator("nvmf_subsystem_add_ns",
             {{"nqn", kNqn}, {"namespace", {{"bdev_name", bdev}, {"uuid", uuid}}}});
  }
  RestoreResult Restore(std::vector<DeviceVolume> volumes, bool with_listing = false) {
    std::unique_ptr<DeviceListing> listing;
    if (with_listing) listing = *manager_.List(context_);
    return manager_.Restore(context_,
                            {.device = device_, .volumes = volumes, .listing = listing.get()});
  }

  std::string attachment_;
  std::string replaced_;
};

TEST_F(IdentityTest, Defect38_ASubsystemThatReplacedTheDevicesIsNeverRepaired) {
  CreateDevice();
  ReplaceSubsystem(kOther);
  for (bool with_listing : {false, true}) {
    RestoreResult result = Restore({}, with_listing);
    EXPECT_EQ(result.status.code(), absl::StatusCode::kAlreadyExists) << result.status;
    EXPECT_EQ(target_.Dump(), replaced_);
  }
}

// Calls a function before one of the round trips to the target.
class InterruptedTarget : public jsonrpc::Caller {
 public:
  InterruptedTarget(jsonrpc::Caller& target, int round_trip, std::function<void()> act)
      : target_(target), rest_(round_trip), act_(std::move(act)) {}
  std::vector<absl::StatusOr<jsonrpc::Json>> CallMany(const base::Context& context,
                                                      std::span<const Request> requests) override {
    if (--rest_ == 0) act_();
    return target_.CallMany(context, requests);
  }
  uint64_t generation() const override { return target_.generation(); }
  bool MayActLate(std::span<const std::string> objects,
                  std::chrono::nanoseconds after_loss) const override {
    return target_.MayActLate(objects, after_loss);
  }
  bool has_acted() const { return rest_ <= 0; }

 private:
  jsonrpc::Caller& target_;
  int rest_;
  const std::function<void()> act_;
};

TEST_F(IdentityTest, Defect38_NothingIsLeftInASubsystemThatReplacesTheDevicesDuringItsRestore) {
  const DeviceVolume volume = Volume(kVolume);
  CreateDevice(&volume);
  int interrupted = 0;
  for (const bool is_missing : {true, false}) {
    for (int round_trip = 1;; ++round_trip) {
      Operator("nvmf_delete_subsystem", {{"nqn", kNqn}});
      if (!is_missing) {
        Operator("nvmf_create_subsystem", {{"nqn", kNqn}, {"serial_number", device_.mark}});
      }
      InterruptedTarget target(target_, round_trip, [this] {
        target_.Operator("nvmf_delete_subsystem", {{"nqn", kNqn}}).status().IgnoreError();
        Operator("nvmf_create_subsystem", {{"nqn", kNqn}, {"serial_number", "OPERATOR"}});
        replaced_ = target_.Dump();
      });
      NvmfTcpManager manager(target);
      manager.Restore(context_, {.device = device_, .volumes = {&volume, 1}}).status.IgnoreError();
      if (!target.has_acted()) break;
      ++interrupted;
      EXPECT_EQ(target_.Dump(), replaced_) << "round trip " << round_trip;
    }
  }
  EXPECT_GE(interrupted, 6);
}

TEST_F(IdentityTest, Defect38_ASubsystemThatReplacedTheDevicesIsNeverDeleted) {
  CreateDevice();
  ReplaceSubsystem(kOther);
  EXPECT_TRUE(manager_.DeleteDevice(context_, device_, {}).ok());
  EXPECT_TRUE(manager_.UndoCreate(context_, device_, nullptr).ok());
  EXPECT_EQ(target_.Dump(), replaced_);
}

TEST_F(IdentityTest, Defect38_NoVolumeIsAttachedToASubsystemThatReplacedTheDevices) {
  CreateDevice();
  ReplaceSubsystem();
  auto attachment = manager_.AttachVolume(context_, device_, Volume(kVolume));
  EXPECT_EQ(attachment.status().code(), absl::StatusCode::kAlreadyExists) << attachment.status();
  EXPECT_TRUE(attachment.outcome().is_settled());
  EXPECT_EQ(target_.Dump(), replaced_);
}

TEST_F(IdentityTest, Defect38_NoVolumeIsDetachedFromASubsystemThatReplacedTheDevices) {
  DeviceVolume volume = Volume(kVolume);
  CreateDevice(&volume);
  ReplaceSubsystem(kVolume);
  EXPECT_TRUE(manager_.DetachVolume(context_, device_, Volume(kVolume, attachment_)).ok());
  EXPECT_EQ(target_.Dump(), replaced_);
}

// The target has executed a complete CreateDevice on a subsystem that an operator had just created,
// and the agent received none of the answers.
TEST_F(IdentityTest, Defect37_AnUnfinishedCreateIsRolledBackOnAnotherSubsystem) {
  Operator("nvmf_create_subsystem", {{"nqn", kNqn}, {"serial_number", "OPERATOR"}});
  Operator("nvmf_subsystem_add_host", {{"nqn", kNqn}, {"host", kOperatorsHost}});
  Operator("nvmf_subsystem_add_listener", {{"nqn", kNqn}, {"listen_address", Address("4499")}});
  AddNamespaceAsOperator(kOther);
  const std::string before = target_.Dump();
  Operator("nvmf_subsystem_add_host", {{"nqn", kNqn}, {"host", kTenantsHost}});
  Operator("nvmf_subsystem_add_listener", {{"nqn", kNqn}, {"listen_address", Address("4420")}});
  AddNamespaceAsOperator(kVolume);
  const DeviceVolume volume = Volume(kVolume);
  EXPECT_TRUE(manager_.UndoCreate(context_, device_, &volume).ok());
  EXPECT_EQ(target_.Dump(), before);
}

// Another agent has created exactly the requested subsystem, so the call was refused completely;
// the agent received none of the answers.
TEST_F(IdentityTest, AnUnfinishedCreateDoesNotChangeAnEqualSubsystem) {
  CreateAsOperator();
  const std::string before = target_.Dump();
  EXPECT_TRUE(manager_.UndoCreate(context_, device_, nullptr).ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(IdentityTest, Defect36_NoVolumeIsAttachedBesideAnotherBdevWithItsUuid) {
  CreateDevice();
  AddImpostor(kOther, kVolume);
  const std::string before = target_.Dump();
  Outcome outcome = manager_.AttachVolume(context_, device_, Volume(kVolume)).outcome();
  EXPECT_EQ(outcome.code(), absl::StatusCode::kAlreadyExists) << outcome.status();
  EXPECT_TRUE(outcome.is_settled());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(IdentityTest, Defect36_AnotherBdevUnderTheVolumesUuidIsNotTheVolume) {
  CreateDevice();
  AddImpostor(kOther, kVolume);
  const std::string before = target_.Dump();
  // The fake target accepts two namespaces with the same UUID; other targets may refuse the second
  // one.
  target_.SetFaultPlan([](uint64_t, const Request& request) {
    return request.method == "nvmf_subsystem_add_ns" ? Fault::kRefuse : Fault::kNone;
  });
  absl::Status status = manager_.AttachVolume(context_, device_, Volume(kVolume)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(kOther));
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(IdentityTest, Defect36_DetachLeavesAnotherBdevUnderTheVolumesUuid) {
  DeviceVolume volume = Volume(kVolume);
  CreateDevice(&volume);
  Operator("nvmf_subsystem_remove_ns", {{"nqn", kNqn}, {"nsid", 1}});
  AddImpostor(kOther, kVolume);
  const std::string before = target_.Dump();
  for (const std::string& attachment : {attachment_, std::string("1"), std::string()}) {
    EXPECT_TRUE(manager_.DetachVolume(context_, device_, Volume(kVolume, attachment)).ok());
    EXPECT_EQ(target_.Dump(), before) << attachment;
  }
}

TEST_F(IdentityTest, Defect36_RestoreReportsAnotherBdevUnderTheVolumesUuid) {
  DeviceVolume volume = Volume(kVolume);
  CreateDevice(&volume);
  Operator("nvmf_subsystem_remove_ns", {{"nqn", kNqn}, {"nsid", 1}});
  AddImpostor(kOther, kVolume);
  const std::string before = target_.Dump();
  for (bool with_listing : {false, true}) {
    for (const std::string& attachment : {attachment_, std::string("1")}) {
      RestoreResult result = Restore({Volume(kVolume, attachment)}, with_listing);
      EXPECT_TRUE(result.status.ok()) << result.status;
      EXPECT_EQ(result.volumes[0].attachment.status().code(), absl::StatusCode::kUnavailable);
      EXPECT_THAT(std::string(result.volumes[0].attachment.status().message()), HasSubstr(kOther));
      EXPECT_EQ(target_.Dump(), before);
    }
  }
}

TEST_F(IdentityTest, Defect39_ANamespaceWithTheReusedNsidIsNeverRemoved) {
  DeviceVolume volume = Volume(kVolume);
  CreateDevice(&volume);
  Operator("nvmf_subsystem_remove_ns", {{"nqn", kNqn}, {"nsid", 1}});
  AddNamespaceAsOperator(kOther);
  ASSERT_EQ(Subsystem()["namespaces"][0]["nsid"], 1);
  target_.ResetCounts();
  EXPECT_TRUE(manager_.DetachVolume(context_, device_, Volume(kVolume, attachment_)).ok());
  // The namespace is not removed even temporarily.
  EXPECT_THAT(target_.methods(), testing::Not(testing::Contains("nvmf_subsystem_remove_ns")));
  EXPECT_THAT(Subsystem()["namespaces"], SizeIs(1));
}

TEST_F(IdentityTest, Defect45_AMissingDeviceIsNotCreatedWithAPartOfItsVolumes) {
  CreateDevice();
  Operator("nvmf_delete_subsystem", {{"nqn", kNqn}});
  const DeviceVolume volume = Volume(kVolume, "1");
  RestoreResult result =
      manager_.Restore(context_, {.device = device_, .volumes = {&volume, 1}, .recreate = false});
  EXPECT_TRUE(result.is_device_missing);
  EXPECT_FALSE(result.status.ok());
  EXPECT_TRUE(Subsystem().is_null());
}

TEST_F(IdentityTest, Defect65_EachDeviceHasAUniqueStableSerialNumber) {
  std::set<std::string> serial_numbers;
  for (int i = 0; i < 100; ++i) serial_numbers.insert(Describe().mark);
  EXPECT_THAT(serial_numbers, SizeIs(100));
  CreateDevice();
  EXPECT_EQ(Subsystem()["serial_number"], device_.mark);
  EXPECT_THAT(device_.mark, SizeIs(20));
  target_.Restart();
  ASSERT_TRUE(manager_.Prepare(context_).ok());
  EXPECT_TRUE(Restore({}).status.ok());
  EXPECT_EQ(Subsystem()["serial_number"], device_.mark);
}

// A record of an earlier version has no serial number.
TEST_F(IdentityTest, AnUnknownMarkIsReadFromTheTarget) {
  CreateDevice();
  const std::string mark = std::exchange(device_.mark, "");
  RestoreResult result = Restore({});
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.mark, mark);
  EXPECT_THAT(result.differences, IsEmpty());
}

TEST_F(IdentityTest, ADeviceOfAnEarlierVersionGetsAMarkWhenItIsRecreated) {
  device_.mark.clear();
  std::set<std::string> serial_numbers;
  for (int i = 0; i < 2; ++i) {
    target_.Restart();
    ASSERT_TRUE(manager_.Prepare(context_).ok());
    RestoreResult result = Restore({});
    EXPECT_TRUE(result.status.ok()) << result.status;
    EXPECT_THAT(result.mark, SizeIs(20));
    EXPECT_EQ(Subsystem()["serial_number"], result.mark);
    serial_numbers.insert(result.mark);
  }
  EXPECT_THAT(serial_numbers, SizeIs(2)) << "SPDK's default is not a mark";
}

TEST_F(IdentityTest, AnAdoptedDeviceKeepsItsSerialNumber) {
  Operator("nvmf_create_subsystem",
           {{"nqn", kNqn}, {"allow_any_host", false}, {"serial_number", "REFERENCE"}});
  Operator("nvmf_subsystem_add_host", {{"nqn", kNqn}, {"host", kHost}});
  Operator("nvmf_subsystem_add_listener", {{"nqn", kNqn}, {"listen_address", Address("4420")}});
  ASSERT_TRUE(manager_.List(context_).ok());
  auto existing = manager_.FindExisting(context_, device_);
  ASSERT_TRUE(existing.ok() && *existing) << existing.status();
  EXPECT_EQ((*existing)->mark, "REFERENCE");
  auto listing = manager_.List(context_);
  EXPECT_EQ(manager_.ListAdoptionCandidates(**listing, {})[0].device.mark, "REFERENCE");
}

}  // namespace
}  // namespace sma::nvmf_tcp
