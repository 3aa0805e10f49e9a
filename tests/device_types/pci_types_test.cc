// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/core/testing/agent_fixture.h"
#include "agent/qmp/testing/fake_qemu.h"
#include "devices/vfiouser/vfiouser_manager.h"
#include "devices/vhost_blk/vhost_blk_manager.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using qmp::FakeQemu;
using std::chrono::milliseconds;
using testing::IsEmpty;

enum class Type { kVfioUser, kVhostBlk };
constexpr Type kTypes[] = {Type::kVfioUser, Type::kVhostBlk};

std::string NameOf(Type type) { return type == Type::kVfioUser ? "VfioUser" : "VhostBlk"; }

// Returns the id of the device in its VM.
std::string IdOf(Type type, uint32_t physical_id) {
  return (type == Type::kVfioUser ? "vfiouser-" : "sma-") + std::to_string(physical_id);
}

std::string HandleOf(Type type, uint32_t physical_id) {
  const char* prefix = type == Type::kVfioUser ? "nvme:nqn.2016-06.io.spdk:" : "virtio_blk:";
  return prefix + IdOf(type, physical_id);
}

/// An agent with both device types and two VMs: physical ids 0 to 31 are on bus0 of the first VM,
/// and 32 to 63 on bus1 of the second, which is behind a bridge.
class PciTypesFixture : public AgentFixture {
 protected:
  void SetUp() override {
    std::string folder = std::filesystem::temp_directory_path() / "sma_pci_types_XXXXXX";
    folder_ = ::mkdtemp(folder.data());
    for (int i = 1; i <= 2; ++i) target_.AddBdev(VolumeUuid(i));
    AgentFixture::SetUp();
  }
  void TearDown() override {
    AgentFixture::TearDown();
    std::filesystem::remove_all(folder_);
  }

  std::vector<std::unique_ptr<DeviceManager>> MakeManagers() override {
    std::vector<qmp::Bus> buses;
    for (FakeQemu& qemu : vms_) {
      const qmp::ClientOptions options{.address = qemu.address(), .retry_pause = milliseconds(5)};
      buses.push_back(
          {.name = buses.empty() ? "bus0" : "bus1", .vm = std::make_shared<qmp::Client>(options)});
    }
    vfiouser::Options vfio_user;
    vfio_user.buses = qmp::Buses(buses, true);
    vfio_user.socket_folder = folder_;
    vfio_user.unplug_wait = milliseconds(500);
    vhost_blk::Options vhost;
    vhost.buses = qmp::Buses(buses, true);
    vhost.unplug_wait = milliseconds(500);
    std::vector<std::unique_ptr<DeviceManager>> managers;
    managers.push_back(std::make_unique<vfiouser::VfioUserManager>(target_, std::move(vfio_user)));
    managers.push_back(std::make_unique<vhost_blk::VhostBlkManager>(target_, std::move(vhost)));
    return managers;
  }

  absl::Status CreateDevice(Type type, uint32_t physical_id, int volume) {
    CreateDeviceRequest request;
    if (type == Type::kVfioUser) {
      request.mutable_nvme()->set_physical_id(physical_id);
    } else {
      request.mutable_virtio_blk()->set_physical_id(physical_id);
    }
    request.mutable_volume()->set_volume_id(Id(volume));
    return core_->agent().CreateDevice(context_, request).status();
  }
  absl::Status DeleteDevice(Type type, uint32_t physical_id) {
    return Delete(HandleOf(type, physical_id));
  }
  static ptrdiff_t Count(const FakeQemu& vm, std::string_view command) {
    const std::vector<std::string> commands = vm.commands();
    return std::count(commands.begin(), commands.end(), command);
  }

  std::string folder_;
  FakeQemu vms_[2];
};

// The parameters are the type of the device and the type of another device.
class TwoPciTypesTest : public PciTypesFixture,
                        public testing::WithParamInterface<std::pair<Type, Type>> {};

TEST_P(TwoPciTypesTest, Defect8_AVolumeInUseIsNotAttachedToASecondVm) {
  const auto [first, second] = GetParam();
  const std::string before = target_.Dump();
  ASSERT_TRUE(CreateDevice(first, 0, 1).ok());
  const std::string in_use = target_.Dump();
  EXPECT_EQ(CreateDevice(second, 32, 1).code(), StatusCode::kAlreadyExists);
  EXPECT_THAT(vms_[1].devices(), IsEmpty());
  EXPECT_EQ(Count(vms_[1], "device_add"), 0);
  EXPECT_TRUE(target_.Dump() == in_use);
  // The volume can be used again afterwards.
  ASSERT_TRUE(DeleteDevice(first, 0).ok());
  EXPECT_TRUE(target_.Dump() == before);
  EXPECT_TRUE(CreateDevice(second, 32, 1).ok());
  EXPECT_TRUE(vms_[1].HasDevice(IdOf(second, 32)));
}

// A device that is created in a slot before the guest has released the previous device must not be
// removed together with that one.
TEST_P(TwoPciTypesTest, Defect23_ADeviceCreatedAtOnceInTheSameSlotIsKept) {
  const auto [first, second] = GetParam();
  ASSERT_TRUE(CreateDevice(first, 0, 1).ok());
  vms_[0].SetGuest(FakeQemu::Guest::kIgnores);
  ASSERT_TRUE(DeleteDevice(first, 0).ok()) << "the guest may take its time";
  EXPECT_TRUE(vms_[0].HasDevice(IdOf(first, 0)));
  // CreateDevice is refused until the slot is free, so that no client receives a device that is
  // about to be removed.
  EXPECT_FALSE(CreateDevice(second, 0, 2).ok());
  EXPECT_TRUE(vms_[0].HasDevice(IdOf(first, 0)));
  vms_[0].SetGuest(FakeQemu::Guest::kReleases);
  vms_[0].ReleaseAll();
  WaitFor([this, second = second] { return CreateDevice(second, 0, 2).ok(); });
  WaitFor([this, first = first, second = second] {
    return first == second || !core_->record().FindDevice(HandleOf(first, 0));
  });
  EXPECT_TRUE(vms_[0].HasDevice(IdOf(second, 0)));
  EXPECT_EQ(vms_[0].devices().size(), 1u);
}

std::string PairName(const testing::TestParamInfo<std::pair<Type, Type>>& info) {
  return NameOf(info.param.first) + "Then" + NameOf(info.param.second);
}
INSTANTIATE_TEST_SUITE_P(All, TwoPciTypesTest,
                         testing::Values(std::pair(Type::kVfioUser, Type::kVfioUser),
                                         std::pair(Type::kVfioUser, Type::kVhostBlk),
                                         std::pair(Type::kVhostBlk, Type::kVfioUser),
                                         std::pair(Type::kVhostBlk, Type::kVhostBlk)),
                         PairName);

class PciTypeTest : public PciTypesFixture, public testing::WithParamInterface<Type> {};

TEST_P(PciTypeTest, Defect24_ADeviceBelowABridgeIsFound) {
  ASSERT_TRUE(CreateDevice(GetParam(), 32, 1).ok());
  ASSERT_EQ(Count(vms_[1], "device_add"), 1);
  for (bool booted : {true, false}) {
    vms_[1].SetBooted(booted);
    Crash();
    Open();  // compares the device with the VM
    EXPECT_TRUE(CreateDevice(GetParam(), 32, 1).ok());
    EXPECT_EQ(Count(vms_[1], "device_add"), 1) << "it was not seen and plugged again";
  }
  EXPECT_TRUE(DeleteDevice(GetParam(), 32).ok());
  EXPECT_THAT(vms_[1].devices(), IsEmpty());
}

TEST_P(PciTypeTest, Defect63_ATemporaryRefusalOfUnplugIsRetried) {
  const std::string before = target_.Dump();
  ASSERT_TRUE(CreateDevice(GetParam(), 0, 1).ok());
  vms_[0].Refuse("device_del", "Hot-unplug failed: guest is busy (power indicator blinking)");
  std::thread guest([this] {
    WaitFor([this] { return Count(vms_[0], "device_del") > 0; });
    vms_[0].Refuse("device_del", "");
  });
  EXPECT_TRUE(DeleteDevice(GetParam(), 0).ok());
  guest.join();
  WaitFor([this] { return !core_->record().FindDevice(HandleOf(GetParam(), 0)); });
  EXPECT_THAT(vms_[0].devices(), IsEmpty());
  EXPECT_TRUE(target_.Dump() == before);
}

// QEMU 11.1 aborts when a vfio-user function with MSI-X is unplugged.
TEST_P(PciTypeTest, Defect64_ADeviceOfTheDefaultIsUnpluggedFromEachQemu) {
  for (int minor : {0, 1, 2}) {
    Crash();
    vms_[0].SetVersion(11, minor);
    // Sets the parts that QEMU shows for a function. MSI-X is harmless for QEMU's own emulated
    // devices.
    vms_[0].SetDeviceParts(GetParam() == Type::kVfioUser
                               ? std::vector<std::string>{"bus master[0]", "VFIO BAR 0[0]"}
                               : std::vector<std::string>{"bus master[0]", "msix-pba[0]"});
    Open();
    ASSERT_TRUE(CreateDevice(GetParam(), 0, 1).ok());
    EXPECT_TRUE(DeleteDevice(GetParam(), 0).ok()) << "QEMU 11." << minor;
    EXPECT_THAT(vms_[0].devices(), IsEmpty());
  }
}

INSTANTIATE_TEST_SUITE_P(All, PciTypeTest, testing::ValuesIn(kTypes),
                         [](const testing::TestParamInfo<Type>& type) {
                           return NameOf(type.param);
                         });

}  // namespace
}  // namespace sma::core
