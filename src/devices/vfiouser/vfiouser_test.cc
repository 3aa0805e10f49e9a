#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "agent/qmp/fake_qemu.h"
#include "agent/spdk/fake_target.h"
#include "devices/vfiouser/params.h"
#include "devices/vfiouser/vfiouser_manager.h"
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
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr char kVolume[] = "00000001-1111-4222-8333-444444444444";
constexpr char kOther[] = "00000002-1111-4222-8333-444444444444";
constexpr char kHandle[] = "nvme:nqn.2016-06.io.spdk:vfiouser-33";
constexpr char kNqn[] = "nqn.2016-06.io.spdk:vfiouser-33";
constexpr char kName[] = "vfiouser-33";

DeviceVolume Volume(const char* uuid, std::string attachment = "") {
  return {.id = *base::Uuid::Parse(uuid), .bdev_name = uuid, .attachment = std::move(attachment)};
}

CreateDeviceRequest RequestFor(uint32_t physical_id, uint32_t virtual_id = 0) {
  CreateDeviceRequest request;
  request.mutable_nvme()->set_physical_id(physical_id);
  request.mutable_nvme()->set_virtual_id(virtual_id);
  return request;
}

// A target, a machine with two buses of 32 slots, a folder for sockets.
class VfioUserTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = std::filesystem::temp_directory_path() / "sma_vfiouser_XXXXXX";
    folder_ = ::mkdtemp(folder.data());
    target_.AddBdev(kVolume);
    target_.AddBdev(kOther);
    ConnectMachine();
    manager_ = MakeManager(true);
    ASSERT_TRUE(manager_->Prepare(context_).ok());
    ASSERT_TRUE(manager_->List(context_).ok());
    auto device = manager_->Describe(RequestFor(33));
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *device;
    empty_ = target_.Dump();
  }
  ~VfioUserTest() override { std::filesystem::remove_all(folder_); }

  void ConnectMachine() {
    machine_ = std::make_shared<qmp::Client>(
        qmp::ClientOptions{.address = qemu_.address(), .connect_wait = milliseconds(200)});
  }
  std::unique_ptr<VfioUserManager> MakeManager(bool plugs) {
    Options options;
    std::shared_ptr<qmp::Client> machine = plugs ? machine_ : nullptr;
    options.buses = qmp::Buses(
        {{.name = "bus0", .machine = machine}, {.name = "bus1", .machine = machine}}, plugs);
    options.socket_folder = folder_;
    options.unplug_wait = milliseconds(300);
    return std::make_unique<VfioUserManager>(target_, std::move(options));
  }

  OutcomeOr<CreatedDevice> Create(const DeviceVolume* volume = nullptr) {
    return manager_->CreateDevice(context_, device_, volume);
  }
  bool FolderExists() const { return std::filesystem::exists(folder_ + "/" + kName); }
  void ExpectNothingLeft() {
    EXPECT_EQ(target_.Dump(), empty_);
    EXPECT_THAT(qemu_.devices(), IsEmpty());
    EXPECT_FALSE(FolderExists());
  }
  // In the session that there is QEMU has greeted already: another begins.
  void BecomeQemu(int major, int minor) {
    qemu_.SetVersion(major, minor);
    manager_.reset();
    machine_.reset();
    ConnectMachine();
    manager_ = MakeManager(true);
  }
  Json Subsystem() {
    auto found = target_.Operator("nvmf_get_subsystems", {{"nqn", kNqn}});
    return found.ok() ? (*found)[0] : Json();
  }

  Context context_ = Context::WithTimeout(seconds(20));
  spdk::FakeTarget target_;
  FakeQemu qemu_;
  std::shared_ptr<qmp::Client> machine_;
  std::string folder_;
  std::unique_ptr<VfioUserManager> manager_;
  DeviceSpec device_;
  std::string empty_;
};

TEST_F(VfioUserTest, HandlesHaveAStrictForm) {
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

TEST_F(VfioUserTest, ArgumentsAreCheckedBeforeAnythingIsMade) {
  for (const auto& request : {RequestFor(64), RequestFor(UINT32_MAX), RequestFor(0, 1)}) {
    EXPECT_EQ(manager_->Describe(request).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(manager_->Describe(RequestFor(63)).ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(VfioUserTest, CreatePlugsAndDeleteTakesAllAway) {
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

TEST_F(VfioUserTest, WithoutAMachineTheSocketAlone) {
  manager_ = MakeManager(false);
  ASSERT_TRUE(Create().ok());
  EXPECT_TRUE(FolderExists());
  EXPECT_EQ(Subsystem()["listen_addresses"].size(), 1u);
  EXPECT_THAT(qemu_.commands(), testing::Not(testing::Contains("device_add")));
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, Defect64_ControllersHaveMsiUnlessAskedForMsix) {
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

// QEMU before 10.1 has no such device.
TEST_F(VfioUserTest, MachineThatRefusesUndoesAll) {
  qemu_.Refuse("device_add", "'vfio-user-pci' is not a valid device model name");
  DeviceVolume volume = Volume(kVolume);
  const Outcome outcome = Create(&volume).outcome();
  EXPECT_EQ(outcome.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(outcome.message(), HasSubstr("not a valid device model name"));
  EXPECT_TRUE(outcome.is_settled());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, UnreachableMachineUndoesAll) {
  qemu_.Kill();
  // One that has never had a session, so that nothing can have been sent.
  machine_ = std::make_shared<qmp::Client>(
      qmp::ClientOptions{.address = qemu_.address(), .connect_wait = milliseconds(200)});
  manager_ = MakeManager(true);
  const Outcome outcome = Create().outcome();
  EXPECT_EQ(outcome.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(outcome.is_settled());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, LostSessionIsUndoneAtOnceOrLater) {
  qemu_.Kill();
  EXPECT_EQ(Create().status().code(), absl::StatusCode::kUnavailable);
  qemu_.Start();
  EXPECT_TRUE(manager_->UndoCreate(context_, device_, nullptr).ok());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, EachRefusedStepIsUndone) {
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

TEST_F(VfioUserTest, LostAnswersAreUndoneLater) {
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

TEST_F(VfioUserTest, DeviceThatIsThereIsFoundAndLeftAlone) {
  ASSERT_TRUE(Create().ok());
  const std::string before = target_.Dump();
  auto other = MakeManager(true);  // an agent that knows nothing
  auto existing = other->FindExisting(context_, device_);
  ASSERT_TRUE(existing.ok()) << existing.status();
  EXPECT_TRUE(existing->has_value());
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_THAT(qemu_.devices(), SizeIs(1));
}

TEST_F(VfioUserTest, OperatorsSubsystemOfTheNameIsNotTouched) {
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

// The target has done all of a CreateDevice, on a subsystem that an operator had just created, and
// the agent has seen none of the answers.
TEST_F(VfioUserTest, NothingOfAnUnfinishedCreateStaysOnAnotherSubsystem) {
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

TEST_F(VfioUserTest, FilesOfOthersInTheFolderStay) {
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

TEST_F(VfioUserTest, SameSlotAgainAtOnce) {
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(Create().ok());
    EXPECT_THAT(qemu_.devices(), SizeIs(1));
    ASSERT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  }
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, VolumesComeAndGo) {
  ASSERT_TRUE(Create().ok());
  auto attachment = manager_->AttachVolume(context_, device_, Volume(kVolume));
  ASSERT_TRUE(attachment.ok()) << attachment.status();
  EXPECT_EQ(Subsystem()["namespaces"].size(), 1u);
  EXPECT_TRUE(manager_->DetachVolume(context_, device_, Volume(kVolume, *attachment)).ok());
  EXPECT_EQ(Subsystem()["namespaces"].size(), 0u);
  // One that is not there, and one whose bdev has gone.
  EXPECT_TRUE(manager_->DetachVolume(context_, device_, Volume(kVolume, *attachment)).ok());
  EXPECT_TRUE(manager_->DetachVolume(context_, device_, Volume(kOther)).ok());
  EXPECT_EQ(
      manager_->AttachVolume(context_, device_, Volume("00000009-1111-4222-8333-444444444444"))
          .status()
          .code(),
      absl::StatusCode::kNotFound);
}

TEST_F(VfioUserTest, TargetRestartedMakesAllAgainAndPlugsAnew) {
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

// Its guest is worth more than the call.
TEST_F(VfioUserTest, QemuThatWouldAbortIsNotAskedToUnplug) {
  BecomeQemu(11, 1);
  qemu_.SetDeviceParts({"bus master[0]", "VFIO MSIX PBA[0]"});
  ASSERT_TRUE(Create().ok());
  const Outcome refused = manager_->DeleteDevice(context_, device_, {});
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused.message(), HasSubstr("QEMU 11.1"));
  EXPECT_THAT(qemu_.devices(), SizeIs(1));
  EXPECT_FALSE(Subsystem().is_null());
  // Nor when the target was restarted, and the device would be plugged anew.
  target_.Restart();
  target_.AddBdev(kVolume);
  target_.AddBdev(kOther);
  ASSERT_TRUE(manager_->Prepare(context_).ok());
  RestoreResult result = manager_->Restore(context_, {.device = device_, .volumes = {}});
  EXPECT_EQ(result.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::ranges::count(qemu_.commands(), std::string("device_del")), 0);
  // One without MSI-X goes, and one that is not plugged.
  qemu_.SetDeviceParts({"bus master[0]"});
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  qemu_.SetDeviceParts({"VFIO MSIX PBA[0]"});
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, OtherQemusAreAsked) {
  BecomeQemu(11, 2);
  qemu_.SetDeviceParts({"VFIO MSIX PBA[0]"});
  ASSERT_TRUE(Create().ok());
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  ExpectNothingLeft();
}

TEST_F(VfioUserTest, MachineRestartedGetsItsDeviceBack) {
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

TEST_F(VfioUserTest, NothingIsDoneTwice) {
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

}  // namespace
}  // namespace sma::vfiouser
