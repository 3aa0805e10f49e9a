// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "agent/qmp/address.h"
#include "devices/vfiouser/params.h"
#include "devices/vfiouser/testing/vfiouser_fixture.h"
#include "sma/outcome.h"

namespace sma::vfiouser {
namespace {

using base::Context;
using jsonrpc::Json;
using jsonrpc::Request;
using qmp::FakeQemu;
using spdk::Fault;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

TEST_F(VfioUserTest, HandlesHaveAStrictGrammar) {
  EXPECT_EQ(device_.handle, kHandle);
  EXPECT_TRUE(manager_->OwnsHandle(kHandle));
  for (const char* handle :
       {"nvme:nqn.2016-06.io.spdk:../x", "nvme:/etc", "nvme:nqn.2016-06.io.spdk:vfiouser-",
        "nvme:nqn.2016-06.io.spdk:vfiouser-033", "nvme:nqn.2016-06.io.spdk:vfiouser--1",
        "nvme:nqn.2016-06.io.spdk:vfiouser-1/..", "nvme:nqn.2016-06.io.spdk:vfiouser-4294967296",
        "nvme:nqn.2016-06.io.spdk:vfiouser-1 ", "nqn.2016-06.io.spdk:vfiouser-1", "nvme:", ""}) {
    EXPECT_FALSE(manager_->OwnsHandle(handle)) << handle;
  }
}

TEST_F(VfioUserTest, ArgumentsAreCheckedFirst) {
  for (const auto& request : {RequestFor(64), RequestFor(UINT32_MAX), RequestFor(0, 1)}) {
    EXPECT_EQ(manager_->Describe(request).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(manager_->Describe(RequestFor(63)).ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(VfioUserTest, CreatePlugsAndDeleteRemovesAll) {
  DeviceVolume volume = Volume(kVolume);
  auto attachment = Create(&volume);
  ASSERT_TRUE(attachment.ok()) << attachment.status();
  EXPECT_EQ(attachment->attachment, std::string("1 null-") + kVolume);
  EXPECT_EQ(Subsystem()["allow_any_host"], true);
  EXPECT_EQ(Subsystem()["listen_addresses"][0]["traddr"], folder_ + "/" + kName);
  EXPECT_EQ(Subsystem()["namespaces"][0]["uuid"], kVolume);
  EXPECT_EQ(qemu_.devices()[kName],
            Json({{"id", kName},
                  {"driver", "vfio-user-pci"},
                  {"bus", "bus1"},
                  {"addr", "0x1"},
                  {"socket", {{"type", "unix"}, {"path", folder_ + "/" + kName + "/cntrl"}}}}));
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  ExpectNothingLeft();
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
}

TEST_F(VfioUserTest, WithoutAVmOnlyTheSocketIsCreated) {
  manager_ = MakeManager(false);
  ASSERT_TRUE(Create().ok());
  EXPECT_TRUE(FolderExists());
  EXPECT_EQ(Subsystem()["listen_addresses"].size(), 1u);
  EXPECT_THAT(qemu_.commands(), testing::Not(testing::Contains("device_add")));
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, Defect64_ControllersHaveMsiUnlessMsixIsConfigured) {
  for (bool msix : {false, true}) {
    target_.Restart();
    Json params;
    target_.SetFaultPlan([&params](uint64_t, const Request& request) {
      if (request.method == "nvmf_create_transport") params = request.params;
      return Fault::kNone;
    });
    VfioUserManager manager(target_, {.socket_folder = folder_, .msix = msix});
    ASSERT_TRUE(manager.Prepare(context_).ok());
    EXPECT_EQ(params["disable_msix"], !msix);
  }
}

TEST_F(VfioUserTest, Defect66_AFolderOfAnotherUserIsNotUsed) {
  const std::string path = folder_ + "/" + kName;
  std::filesystem::create_directory(path);
  ASSERT_EQ(::chmod(path.c_str(), 0777), 0);
  absl::Status status = Create().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  ASSERT_EQ(::chmod(path.c_str(), 0755), 0);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(path.c_str(), 12345, 12345), 0);
    status = Create().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("12345"));
  }
  EXPECT_TRUE(Subsystem().is_null());
}

// QEMU before 10.1 does not have this device model.
TEST_F(VfioUserTest, RefusalByQemuIsRolledBack) {
  qemu_.Refuse("device_add", "'vfio-user-pci' is not a valid device model name");
  DeviceVolume volume = Volume(kVolume);
  const Outcome outcome = Create(&volume).outcome();
  EXPECT_EQ(outcome.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(outcome.message(), HasSubstr("not a valid device model name"));
  EXPECT_TRUE(outcome.is_settled());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, UnreachableQemuIsRolledBack) {
  qemu_.Kill();
  // A client that never had a session, so that nothing can have been sent.
  Reconnect(milliseconds(200));
  const Outcome outcome = Create().outcome();
  EXPECT_EQ(outcome.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(outcome.is_settled());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, LostSessionIsRolledBackImmediatelyOrLater) {
  Reconnect(milliseconds(200));
  while (!vm_->WaitConnected(context_).ok()) ASSERT_TRUE(context_.status().ok());
  qemu_.Kill();
  EXPECT_EQ(Create().status().code(), absl::StatusCode::kUnavailable);
  qemu_.Start();
  Reconnect();
  EXPECT_TRUE(manager_->UndoCreate(context_, device_, nullptr).ok());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, EachRefusedStepIsRolledBack) {
  DeviceVolume volume = Volume(kVolume);
  for (uint64_t failing = 0; failing < 3; ++failing) {
    target_.ResetCounts();
    target_.SetFaultPlan([failing](uint64_t index, const Request&) {
      return index == failing ? Fault::kRefuse : Fault::kNone;
    });
    auto attachment = Create(&volume);
    EXPECT_FALSE(attachment.ok()) << failing;
    EXPECT_TRUE(attachment.outcome().is_settled()) << failing;
    ExpectNothingLeft();
  }
}

TEST_F(VfioUserTest, LostAnswersAreRolledBackLater) {
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
      absl::Status status = Create(&volume).status();
      target_.SetFaultPlan(nullptr);
      EXPECT_EQ(status.ok(), !failed) << failing;
      EXPECT_TRUE(manager_->UndoCreate(context_, device_, &volume).ok()) << failing;
      ExpectNothingLeft();
    }
  }
}

TEST_F(VfioUserTest, ExistingDeviceIsFoundAndNotChanged) {
  ASSERT_TRUE(Create().ok());
  const std::string before = target_.Dump();
  auto other = MakeManager(true);  // an agent without a record
  auto existing = other->FindExisting(context_, device_);
  ASSERT_TRUE(existing.ok()) << existing.status();
  EXPECT_TRUE(existing->has_value());
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_THAT(qemu_.devices(), SizeIs(1));
}

TEST_F(VfioUserTest, OperatorsSubsystemWithTheNameIsNotChanged) {
  ASSERT_TRUE(target_.Operator("nvmf_create_subsystem", {{"nqn", kNqn}}).ok());
  const std::string before = target_.Dump();
  auto other = MakeManager(true);
  EXPECT_EQ(other->FindExisting(context_, device_).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Create().status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(manager_->UndoCreate(context_, device_, nullptr).ok());
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_FALSE(FolderExists());
}

// The target has executed a complete CreateDevice on a subsystem that an operator had just created,
// and the agent received none of the answers.
TEST_F(VfioUserTest, AnUnfinishedCreateIsRolledBackOnAnotherSubsystem) {
  const DeviceVolume volume = Volume(kVolume);
  ASSERT_TRUE(Create(&volume).ok());
  const Json listener = Subsystem()["listen_addresses"][0];
  ASSERT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  auto call = [&](const char* method, Json params) {
    params["nqn"] = kNqn;
    ASSERT_TRUE(target_.Operator(method, std::move(params)).ok()) << method;
  };
  call("nvmf_create_subsystem", {{"allow_any_host", true}, {"serial_number", "OPERATOR"}});
  call("nvmf_subsystem_add_ns", {{"namespace", {{"bdev_name", kOther}}}});
  Json owners = listener;
  owners["traddr"] = folder_;
  call("nvmf_subsystem_add_listener", {{"listen_address", owners}});
  const std::string before = target_.Dump();
  ASSERT_TRUE(std::filesystem::create_directory(folder_ + "/" + kName));
  call("nvmf_subsystem_add_listener", {{"listen_address", listener}});
  call("nvmf_subsystem_add_ns", {{"namespace", {{"bdev_name", kVolume}}}});
  EXPECT_TRUE(manager_->UndoCreate(context_, device_, &volume).ok());
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_FALSE(FolderExists());
}

TEST_F(VfioUserTest, OtherFilesInTheFolderStay) {
  ASSERT_TRUE(Create().ok());
  const std::string file = folder_ + "/" + kName + "/precious";
  std::ofstream(file) << "data";
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST_F(VfioUserTest, LinkInPlaceOfTheFolderIsRefused) {
  std::filesystem::create_directory(folder_ + "/elsewhere");
  std::filesystem::create_symlink(folder_ + "/elsewhere", folder_ + "/" + kName);
  EXPECT_EQ(Create().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/elsewhere"));
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(VfioUserTest, GuestThatReleasesBeforeTheAnswer) {
  qemu_.SetGuest(FakeQemu::Guest::kReleasesBeforeAnswer);
  ASSERT_TRUE(Create().ok());
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, SlowGuestKeepsTheDeviceUntilItReleases) {
  ASSERT_TRUE(Create().ok());
  qemu_.SetGuest(FakeQemu::Guest::kIgnores);
  const std::string before = target_.Dump();
  const Outcome outcome = manager_->DeleteDevice(context_, device_, {});
  EXPECT_EQ(outcome.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(outcome.is_under_way());
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_TRUE(FolderExists());
  qemu_.ReleaseAll();
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, SlotIsReusedImmediately) {
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(Create().ok());
    EXPECT_THAT(qemu_.devices(), SizeIs(1));
    ASSERT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  }
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, VolumesAreAttachedAndDetached) {
  ASSERT_TRUE(Create().ok());
  auto attachment = manager_->AttachVolume(context_, device_, Volume(kVolume));
  ASSERT_TRUE(attachment.ok()) << attachment.status();
  EXPECT_EQ(Subsystem()["namespaces"].size(), 1u);
  EXPECT_TRUE(manager_->DetachVolume(context_, device_, Volume(kVolume, *attachment)).ok());
  EXPECT_EQ(Subsystem()["namespaces"].size(), 0u);
  // Detaches a volume that does not exist, and one whose bdev was removed.
  EXPECT_TRUE(manager_->DetachVolume(context_, device_, Volume(kVolume, *attachment)).ok());
  EXPECT_TRUE(manager_->DetachVolume(context_, device_, Volume(kOther)).ok());
  EXPECT_EQ(
      manager_->AttachVolume(context_, device_, Volume("00000009-1111-4222-8333-444444444444"))
          .status()
          .code(),
      absl::StatusCode::kNotFound);
}

TEST_F(VfioUserTest, TargetRestartRecreatesAllAndPlugsAgain) {
  DeviceVolume volume = Volume(kVolume);
  ASSERT_TRUE(Create(&volume).ok());
  volume.attachment = "1";
  const std::string before = target_.Dump();
  target_.Restart();
  target_.AddBdev(kVolume);
  target_.AddBdev(kOther);
  ASSERT_TRUE(manager_->Prepare(context_).ok());
  auto listing = manager_->List(context_);
  ASSERT_TRUE(listing.ok());
  RestoreResult result = manager_->Restore(
      context_, {.device = device_, .volumes = {&volume, 1}, .listing = listing->get()});
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_THAT(qemu_.devices(), SizeIs(1));
  EXPECT_EQ(std::ranges::count(qemu_.commands(), std::string("device_add")), 2);
}

// Keeping a running guest alive takes precedence over the call.
TEST_F(VfioUserTest, QemuThatWouldAbortIsNotAskedToUnplug) {
  BecomeQemu(11, 1);
  qemu_.SetDeviceParts({"bus master[0]", "VFIO MSIX PBA[0]"});
  ASSERT_TRUE(Create().ok());
  const Outcome refused = manager_->DeleteDevice(context_, device_, {});
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused.message(), HasSubstr("QEMU 11.1"));
  EXPECT_THAT(qemu_.devices(), SizeIs(1));
  EXPECT_FALSE(Subsystem().is_null());
  // The same applies if the target was restarted and the device would have to be plugged again.
  target_.Restart();
  target_.AddBdev(kVolume);
  target_.AddBdev(kOther);
  ASSERT_TRUE(manager_->Prepare(context_).ok());
  RestoreResult result = manager_->Restore(context_, {.device = device_, .volumes = {}});
  EXPECT_EQ(result.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::ranges::count(qemu_.commands(), std::string("device_del")), 0);
  // A device without MSI-X can be deleted, and so can a device that is not plugged.
  qemu_.SetDeviceParts({"bus master[0]"});
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  qemu_.SetDeviceParts({"VFIO MSIX PBA[0]"});
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, OtherQemuVersionsUnplug) {
  BecomeQemu(11, 2);
  qemu_.SetDeviceParts({"VFIO MSIX PBA[0]"});
  ASSERT_TRUE(Create().ok());
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, RestartedVmGetsItsDeviceBack) {
  ASSERT_TRUE(Create().ok());
  qemu_.Kill();
  qemu_.Start();
  RestoreResult report = manager_->Restore(
      context_, {.device = device_, .volumes = {}, .listing = nullptr, .repair = false});
  EXPECT_EQ(report.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  RestoreResult result = manager_->Restore(context_, {.device = device_, .volumes = {}});
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_THAT(result.differences, SizeIs(1));
  EXPECT_THAT(qemu_.devices(), SizeIs(1));
}

TEST_F(VfioUserTest, RepeatedCallsChangeNothing) {
  ASSERT_TRUE(Create().ok());
  const size_t commands = qemu_.commands().size();
  auto listing = manager_->List(context_);
  ASSERT_TRUE(listing.ok());
  target_.ResetCounts();
  RestoreResult result =
      manager_->Restore(context_, {.device = device_, .volumes = {}, .listing = listing->get()});
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_THAT(result.differences, IsEmpty());
  EXPECT_EQ(target_.calls(), 0u);
  EXPECT_EQ(std::ranges::count(qemu_.commands(), std::string("device_add")), 1);
  EXPECT_GE(qemu_.commands().size(), commands);
}

TEST_F(VfioUserTest, DevicesOfAnotherAgentCanBeAdopted) {
  DeviceVolume volume = Volume(kVolume);
  ASSERT_TRUE(Create(&volume).ok());
  auto listing = manager_->List(context_);
  ASSERT_TRUE(listing.ok());
  auto candidates = manager_->ListAdoptionCandidates(**listing, {});
  ASSERT_THAT(candidates, SizeIs(1));
  EXPECT_EQ(candidates[0].device.handle, kHandle);
  EXPECT_EQ(candidates[0].obstacle, "");
  EXPECT_THAT(candidates[0].volumes, SizeIs(1));
  const std::string known[] = {kHandle};
  EXPECT_THAT(manager_->ListAdoptionCandidates(**listing, known), IsEmpty());
}

TEST_F(VfioUserTest, LimitsAreOfVolumes) {
  EXPECT_TRUE(manager_->GetQosCapabilities(context_)->max_volume_caps().rw_iops());
  EXPECT_FALSE(manager_->GetQosCapabilities(context_)->has_max_device_caps());
  ASSERT_TRUE(Create().ok());
  QosLimit limit;
  limit.set_rw_iops(5);
  DeviceVolume volume = Volume(kVolume);
  EXPECT_TRUE(manager_->SetQos(context_, device_, &volume, limit).ok());
  auto bdev = target_.Operator("bdev_get_bdevs", {{"name", kVolume}});
  ASSERT_TRUE(bdev.ok());
  EXPECT_EQ((*bdev)[0]["assigned_rate_limits"]["rw_ios_per_sec"], 5000);
}

// The function in the VM belongs to the subsystem that was created later.
TEST_F(VfioUserTest, Defect38_TheFunctionOfASubsystemThatReplacedTheDevicesStays) {
  ASSERT_TRUE(Create().ok());
  ASSERT_TRUE(target_.Operator("nvmf_delete_subsystem", {{"nqn", kNqn}}).ok());
  ASSERT_TRUE(target_
                  .Operator("nvmf_create_subsystem",
                            {{"nqn", kNqn}, {"allow_any_host", true}, {"serial_number", "OWNERS"}})
                  .ok());
  const std::string before = target_.Dump();
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_THAT(qemu_.devices(), SizeIs(1));
}

// QEMU serves one monitor client at a time.
TEST_F(VfioUserTest, AVmWhoseMonitorIsInUseIsNotRemoved) {
  ASSERT_TRUE(Create().ok());
  manager_.reset();
  vm_.reset();
  qemu_.DropClient();
  const auto holder =
      qmp::Connect(qemu_.address(), std::chrono::steady_clock::now() + seconds(5), -1);
  ASSERT_TRUE(holder.ok());
  while (!qemu_.has_client() && context_.status().ok()) std::this_thread::yield();
  vm_ = std::make_shared<qmp::Client>(qmp::ClientOptions{.address = qemu_.address(),
                                                         .connect_wait = milliseconds(50),
                                                         .greeting_wait = milliseconds(20),
                                                         .retry_pause = milliseconds(5)});
  Options options;
  options.buses = qmp::Buses({{.name = "bus0", .vm = vm_}, {.name = "bus1", .vm = vm_}}, true);
  options.socket_folder = folder_;
  options.gone_after = milliseconds(0);
  manager_ = std::make_unique<VfioUserManager>(target_, std::move(options));
  // More attempts than QEMU's queue has slots, because closed connections remain in the queue.
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(manager_->DeleteDevice(context_, device_, {}).status().code(),
              absl::StatusCode::kUnavailable);
  }
  EXPECT_FALSE(Subsystem().is_null());
  qemu_.Kill();
  Outcome outcome = manager_->DeleteDevice(context_, device_, {});
  while (!outcome.ok() && context_.status().ok()) {
    outcome = manager_->DeleteDevice(context_, device_, {});
  }
  EXPECT_TRUE(Subsystem().is_null()) << "the subsystem was deleted";
}

// A VM does not say who plugged a function. Only the function of a recorded device is known to be
// the agent's.
TEST_F(VfioUserTest, AFunctionOfTheDevicesNameInTheVmIsNotUnplugged) {
  ASSERT_TRUE(Create().ok());
  ASSERT_TRUE(target_.Operator("nvmf_delete_subsystem", {{"nqn", kNqn}}).ok());
  ASSERT_TRUE(manager_->List(context_).ok());
  EXPECT_EQ(manager_->FindExisting(context_, device_).status().code(),
            absl::StatusCode::kAlreadyExists);
  const OutcomeOr<CreatedDevice> created = Create();
  EXPECT_EQ(created.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(created.outcome().is_settled());
  EXPECT_THAT(qemu_.commands(), Not(Contains("device_del")));
  EXPECT_THAT(qemu_.devices(), SizeIs(1));
  EXPECT_EQ(target_.Dump(), empty_);
}

// QEMU does not reconnect to a listener that no longer exists.
TEST_F(VfioUserTest, TheFunctionOfARecreatedListenerIsPluggedAgain) {
  ASSERT_TRUE(Create().ok());
  ASSERT_TRUE(target_.Operator("nvmf_delete_subsystem", {{"nqn", kNqn}}).ok());
  const size_t before = qemu_.commands().size();
  EXPECT_TRUE(manager_->Restore(context_, {.device = device_, .volumes = {}}).status.ok());
  const std::vector<std::string> commands = qemu_.commands();
  EXPECT_EQ(std::count(commands.begin() + before, commands.end(), "device_del"), 1);
  const auto last = std::find(commands.rbegin(), commands.rend(), "device_del").base();
  EXPECT_EQ(std::count(last, commands.end(), "device_add"), 1);
  EXPECT_THAT(qemu_.devices(), SizeIs(1));
}

}  // namespace
}  // namespace sma::vfiouser
