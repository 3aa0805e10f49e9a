// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>

#include <thread>

#include "devices/vhost_blk/params.h"
#include "devices/vhost_blk/testing/vhost_blk_fixture.h"
#include "sma/outcome.h"

namespace sma::vhost_blk {
namespace {

using base::Context;
using jsonrpc::Json;
using spdk::Fault;
using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::IsEmpty;

class VhostBlkTest : public VhostBlkFixture {};

TEST_F(VhostBlkTest, Handles) {
  EXPECT_EQ(Device(33).handle, "virtio_blk:sma-33");
  EXPECT_TRUE(manager_->OwnsHandle("virtio_blk:sma-0"));
  EXPECT_TRUE(manager_->OwnsHandle("virtio_blk:sma-4294967295"));
  for (const char* handle :
       {"", "virtio_blk", "virtio_blk:", "virtio_blk:sma-", "virtio_blk:sma-01",
        "virtio_blk:sma-4294967296", "virtio_blk:sma--1", "virtio_blk:sma-1 ", "virtio_blk:SMA-1",
        "virtio_blk:sma-1/../x", "nvmf-tcp:sma-1", "virtio_blk;sma-1"}) {
    EXPECT_FALSE(manager_->OwnsHandle(handle)) << handle;
  }
}

TEST_F(VhostBlkTest, ParametersAreCheckedFirst) {
  EXPECT_TRUE(absl::IsInvalidArgument(manager_->Describe(Request(34)).status()));
  CreateDeviceRequest request = Request(0);
  request.mutable_virtio_blk()->set_virtual_id(1);
  EXPECT_TRUE(absl::IsInvalidArgument(manager_->Describe(request).status()));
  EXPECT_TRUE(manager_->traits().needs_volume);
  EXPECT_EQ(target_.calls(), 0u);
}

TEST_F(VhostBlkTest, CreatePlugsIntoTheSlotOfThePhysicalId) {
  ASSERT_TRUE(Create(33).ok());
  EXPECT_EQ(target_.round_trips(), 1u);
  EXPECT_EQ(BdevOf("sma-33"), std::string("null-") + kVolume);
  EXPECT_EQ(qemu_.devices()["sma-33"], Json::parse(R"({"id":"sma-33","driver":"vhost-user-blk-pci",
      "bus":"bus1","addr":"0x1","chardev":"sma-33"})"));
  EXPECT_EQ(qemu_.chardevs()["sma-33"]["backend"]["data"]["addr"]["data"]["path"],
            "/run/vhost/sma-33");
  ASSERT_TRUE(Delete(33).ok());
  EXPECT_EQ(target_.Dump(), empty_);
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
  EXPECT_TRUE(Delete(33).ok());
}

TEST_F(VhostBlkTest, PackedRingsApplyToControllerAndDevice) {
  Json params;
  target_.SetFaultPlan([&params](uint64_t, const jsonrpc::Request& request) {
    if (request.method == "vhost_create_blk_controller") params = request.params;
    return Fault::kNone;
  });
  ASSERT_TRUE(Create(0).ok());
  EXPECT_FALSE(params.contains("packed_ring"));
  EXPECT_FALSE(qemu_.devices()["sma-0"].contains("packed"));
  ASSERT_TRUE(Delete(0).ok());
  options_.packed_ring = true;
  StartManager();
  ASSERT_TRUE(Create(0).ok());
  EXPECT_EQ(params["packed_ring"], true);
  EXPECT_EQ(qemu_.devices()["sma-0"]["packed"], true);
}

TEST_F(VhostBlkTest, WithoutAVmOnlyTheSocketIsCreated) {
  options_.buses = qmp::Buses({}, false);
  StartManager();
  ASSERT_TRUE(Create(4711).ok());
  EXPECT_FALSE(BdevOf("sma-4711").is_null());
  EXPECT_THAT(qemu_.commands(), testing::Not(testing::Contains("device_add")));
  EXPECT_TRUE(Delete(4711).ok());
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(VhostBlkTest, VolumeThatAppearsInTimeIsUsed) {
  constexpr char kLate[] = "00000009-1111-4222-8333-444444444444";
  EXPECT_EQ(Create(0, Volume(kLate)).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(target_.Dump(), empty_);
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  DeviceVolume volume = Volume(kLate);
  volume.wait = std::chrono::seconds(20);
  std::thread maker([&] {
    while (target_.calls() < 5) std::this_thread::yield();
    target_.AddBdev(kLate);
  });
  const Outcome outcome = Create(0, volume);
  maker.join();
  EXPECT_TRUE(outcome.ok()) << outcome.status();
}

TEST_F(VhostBlkTest, Defect8_VolumeInUseIsNotPlugged) {
  ASSERT_TRUE(Create(0).ok());
  EXPECT_EQ(Create(1).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(BdevOf("sma-1").is_null());
  EXPECT_EQ(qemu_.devices().size(), 1u);
}

// The other controller was created after the last listing of the target's controllers.
TEST_F(VhostBlkTest, AVolumeThatAnotherClientHasTakenSinceTheListingIsNotPlugged) {
  Operator("vhost_create_blk_controller", {{"ctrlr", "theirs"}, {"dev_name", kVolume}});
  const std::string before = target_.Dump();
  EXPECT_EQ(Create(0).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_THAT(qemu_.devices(), IsEmpty());
}

// The same for a device that is restored, and for one that would be adopted.
TEST_F(VhostBlkTest, AVolumeThatAnotherClientHasTakenIsNotRestored) {
  ASSERT_TRUE(Create(0).ok());
  const DeviceSpec device = Device();
  const DeviceVolume volume = Volume();
  auto listing = manager_->List(context_);
  ASSERT_TRUE(listing.ok());
  Operator("vhost_create_blk_controller", {{"ctrlr", "theirs"}, {"dev_name", kVolume}});
  EXPECT_EQ(manager_->FindExisting(context_, device).status().code(),
            absl::StatusCode::kAlreadyExists);
  Operator("vhost_delete_controller", {{"ctrlr", "sma-0"}});
  qemu_.RemoveByHand("sma-0");
  const RestoreResult result =
      manager_->Restore(context_, {.device = device, .volumes = {&volume, 1}});
  EXPECT_EQ(result.status.code(), absl::StatusCode::kAlreadyExists) << result.status;
  EXPECT_TRUE(BdevOf("sma-0").is_null());
  EXPECT_THAT(qemu_.devices(), IsEmpty());
}

TEST_F(VhostBlkTest, VolumeThatIsNoLongerInUseIsAccepted) {
  ASSERT_TRUE(Create(0).ok());
  Operator("vhost_delete_controller", {{"ctrlr", "sma-0"}});
  EXPECT_TRUE(Create(1).ok());
}

TEST_F(VhostBlkTest, ControllerOfAnotherClientIsNotChanged) {
  Operator("vhost_create_blk_controller", {{"ctrlr", "sma-0"}, {"dev_name", kOtherVolume}});
  const std::string before = target_.Dump();
  EXPECT_EQ(Create(0).code(), absl::StatusCode::kAlreadyExists);
  const DeviceVolume volume = Volume();
  EXPECT_TRUE(manager_->UndoCreate(context_, Device(), &volume).ok());
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_THAT(qemu_.devices(), IsEmpty());
}

// An operator deletes the controller and creates one with the same name and another bdev.
TEST_F(VhostBlkTest, Defect38_AControllerThatReplacedTheDevicesIsNotChanged) {
  ASSERT_TRUE(Create().ok());
  Operator("vhost_delete_controller", {{"ctrlr", "sma-0"}});
  Operator("vhost_create_blk_controller", {{"ctrlr", "sma-0"}, {"dev_name", kOtherVolume}});
  qemu_.RemoveByHand("sma-0");
  const std::string replaced = target_.Dump();
  const DeviceSpec device = Device();
  const DeviceVolume volume = Volume();
  for (bool with_listing : {false, true}) {
    std::unique_ptr<DeviceListing> listing;
    if (with_listing) listing = *manager_->List(context_);
    RestoreResult result = manager_->Restore(
        context_, {.device = device, .volumes = {&volume, 1}, .listing = listing.get()});
    EXPECT_FALSE(result.volumes[0].attachment.ok());
    EXPECT_FALSE(qemu_.HasDevice("sma-0")) << "the VM has the operator's disk";
  }
  EXPECT_TRUE(manager_->DeleteDevice(context_, device, {&volume, 1}).ok());
  EXPECT_EQ(target_.Dump(), replaced);
}

TEST_F(VhostBlkTest, ExistingDeviceIsFound) {
  EXPECT_FALSE(manager_->FindExisting(context_, Device())->has_value());
  EXPECT_EQ(target_.calls(), 0u);
  ASSERT_TRUE(Create(0).ok());
  auto existing = manager_->FindExisting(context_, Device());
  ASSERT_TRUE(existing.ok() && *existing) << existing.status();
  ASSERT_EQ((*existing)->volumes.size(), 1u);
  EXPECT_EQ((*existing)->volumes[0].id.ToString(), kVolume);
}

TEST_F(VhostBlkTest, ControllerThatNoVmHasIsFoundIncomplete) {
  ASSERT_TRUE(Create(0).ok());
  KillQemu();
  qemu_.Start();
  auto existing = manager_->FindExisting(context_, Device());
  ASSERT_TRUE(existing.ok() && *existing) << existing.status();
  EXPECT_FALSE((*existing)->is_complete);
  target_.SetVhostSessions("sma-0", 1);
  EXPECT_EQ(manager_->FindExisting(context_, Device()).status().code(),
            absl::StatusCode::kAlreadyExists)
      << "it is in use";
}

// A device of the VM is the agent's if it connects to the socket of the controller.
TEST_F(VhostBlkTest, ADeviceOfTheNameInTheVmIsNotTakenOver) {
  ASSERT_TRUE(Create(0).ok());
  Operator("vhost_delete_controller", {{"ctrlr", "sma-0"}});
  ASSERT_TRUE(manager_->List(context_).ok());
  auto found = manager_->FindExisting(context_, Device());
  EXPECT_TRUE(found.ok() && !*found) << found.status();
  options_.socket_folder = "/run/elsewhere";
  StartManager();
  EXPECT_EQ(manager_->FindExisting(context_, Device()).status().code(),
            absl::StatusCode::kAlreadyExists);
}

// It may be an operator's: only a device in the record is completed.
TEST_F(VhostBlkTest, AnIdleControllerIsNotCompletedByACreation) {
  Operator("vhost_create_blk_controller", {{"ctrlr", "sma-0"}, {"dev_name", kVolume}});
  const std::string before = target_.Dump();
  for (const Fault fault : {Fault::kNone, Fault::kLoseAnswer}) {
    target_.SetFaultPlan([fault](uint64_t, const jsonrpc::Request& request) {
      return request.method == "vhost_create_blk_controller" ? fault : Fault::kNone;
    });
    const Outcome outcome = Create(0);
    EXPECT_FALSE(outcome.ok());
    EXPECT_TRUE(outcome.is_settled()) << "nothing has to be undone";
    EXPECT_THAT(qemu_.devices(), IsEmpty());
    StartManager();
  }
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(VhostBlkTest, Defect3_UnreachableQemuIsRolledBack) {
  KillQemu();
  EXPECT_EQ(Create(0).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(target_.Dump(), empty_);
  qemu_.Start();
  ASSERT_TRUE(Create(0).ok());
  const std::string complete = target_.Dump();
  KillQemu();
  EXPECT_EQ(Delete(0).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(target_.Dump(), complete);
}

TEST_F(VhostBlkTest, RefusalByQemuIsRolledBack) {
  qemu_.Refuse("device_add", "no such driver");
  const Outcome outcome = Create(0);
  EXPECT_EQ(outcome.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(outcome.is_settled());
  EXPECT_THAT(outcome.message(), HasSubstr("no such driver"));
  EXPECT_EQ(target_.Dump(), empty_);
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
}

TEST_F(VhostBlkTest, CancelledCallIsRolledBack) {
  qemu_.Swallow("device_add");
  const DeviceVolume volume = Volume();
  auto result = manager_->CreateDevice(Context::WithTimeout(milliseconds(100)), Device(), &volume);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(result.outcome().is_settled()) << result.status();
  EXPECT_EQ(target_.Dump(), empty_);
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
}

TEST_F(VhostBlkTest, LostAnswersAreRolledBackLater) {
  target_.SetFaultPlan([](uint64_t, const jsonrpc::Request& request) {
    return request.method == "vhost_create_blk_controller" ? Fault::kLoseAnswer : Fault::kNone;
  });
  const Outcome outcome = Create(0);
  EXPECT_EQ(outcome.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(outcome.is_unknown());
  EXPECT_NE(target_.Dump(), empty_);
  const DeviceVolume volume = Volume();
  EXPECT_TRUE(manager_->UndoCreate(context_, Device(), &volume).ok());
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(VhostBlkTest, RequestIsRepeatedForABusyController) {
  options_.busy_wait = std::chrono::seconds(20);
  StartManager();
  ASSERT_TRUE(Create(0).ok());
  target_.SetVhostSessions("sma-0", 1);
  target_.ResetCounts();
  std::thread qemu([&] {
    while (target_.calls() < 3) std::this_thread::yield();
    target_.SetVhostSessions("sma-0", 0);
  });
  EXPECT_TRUE(Delete(0).ok());
  qemu.join();
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(VhostBlkTest, ControllerThatStaysBusyIsKept) {
  ASSERT_TRUE(Create(0).ok());
  target_.SetVhostSessions("sma-0", 1);
  const Outcome outcome = Delete(0);
  EXPECT_EQ(outcome.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(outcome.is_under_way()) << "no guest was asked to release it";
  EXPECT_FALSE(BdevOf("sma-0").is_null());
}

TEST_F(VhostBlkTest, GuestThatDoesNotReleaseTheDevice) {
  ASSERT_TRUE(Create(0).ok());
  qemu_.SetGuest(qmp::FakeQemu::Guest::kIgnores);
  const Outcome outcome = Delete(0);
  EXPECT_EQ(outcome.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(outcome.is_under_way());
  EXPECT_THAT(outcome.message(), HasSubstr("has not released"));
  EXPECT_FALSE(BdevOf("sma-0").is_null());
  qemu_.ReleaseAll();
  EXPECT_TRUE(Delete(0).ok());
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(VhostBlkTest, DeviceOfARemovedVmIsDeleted) {
  ASSERT_TRUE(Create(0).ok());
  KillQemu();
  EXPECT_EQ(Delete(0).code(), absl::StatusCode::kUnavailable);
  options_.gone_after = std::chrono::nanoseconds(0);
  StartManager();
  target_.SetVhostSessions("sma-0", 1);
  EXPECT_EQ(Delete(0).code(), absl::StatusCode::kUnavailable);
  target_.SetVhostSessions("sma-0", 0);
  EXPECT_TRUE(Delete(0).ok());
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(VhostBlkTest, Defect15_AttachAndDetachAreNotSupported) {
  EXPECT_TRUE(absl::IsUnimplemented(manager_->AttachVolume(context_, Device(), Volume()).status()));
  EXPECT_TRUE(absl::IsUnimplemented(manager_->DetachVolume(context_, Device(), Volume()).status()));
}

TEST_F(VhostBlkTest, Defect26_OneLimiterForDeviceAndVolume) {
  ASSERT_TRUE(Create(0).ok());
  EXPECT_TRUE(manager_->GetQosCapabilities(context_)->max_device_caps().rw_iops());
  EXPECT_TRUE(manager_->GetQosCapabilities(context_)->max_volume_caps().rw_bandwidth());
  EXPECT_FALSE(manager_->GetQosCapabilities(context_)->max_device_caps().rd_iops());
  QosLimit limit;
  limit.set_rw_iops(2);
  const DeviceVolume volume = Volume();
  ASSERT_TRUE(manager_->SetQos(context_, Device(), &volume, limit).ok());
  const Json bdev = (*target_.Operator("bdev_get_bdevs", {{"name", kVolume}}))[0];
  EXPECT_EQ(bdev["assigned_rate_limits"]["rw_ios_per_sec"], 2000);
}

TEST_F(VhostBlkTest, TargetDownIsUnavailable) {
  target_.SetDown(true);
  EXPECT_EQ(Create(0).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Delete(0).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(manager_->List(context_).status().code(), absl::StatusCode::kUnavailable);
}

// The same applies if the volume's own bdev no longer exists.
TEST_F(VhostBlkTest, Defect38_AControllerOfAnotherBdevIsNotDeletedForAMissingVolume) {
  ASSERT_TRUE(Create().ok());
  qemu_.RemoveByHand("sma-0");
  Operator("vhost_delete_controller", {{"ctrlr", "sma-0"}});
  Operator("bdev_null_delete", {{"name", std::string("null-") + kVolume}});
  Operator("vhost_create_blk_controller", {{"ctrlr", "sma-0"}, {"dev_name", kOtherVolume}});
  const std::string before = target_.Dump();
  const DeviceVolume volume = Volume();
  EXPECT_TRUE(manager_->DeleteDevice(context_, Device(), {&volume, 1}).ok());
  EXPECT_EQ(target_.Dump(), before);
}

}  // namespace
}  // namespace sma::vhost_blk
