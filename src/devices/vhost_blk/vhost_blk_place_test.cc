// SPDX-License-Identifier: Apache-2.0

// Tests which VM has a device after changes of the configuration, and beside other clients of VMs.

#include <gmock/gmock.h>

#include "devices/vhost_blk/testing/vhost_blk_fixture.h"

namespace sma::vhost_blk {
namespace {

using absl::StatusCode;
using jsonrpc::Json;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Key;

constexpr char kUuid[] = "00000001-0000-0000-0000-000000000000";
constexpr char kOtherUuid[] = "00000002-0000-0000-0000-000000000000";

// Two VMs, each with a bus of 32 slots, and a device in the first one.
class VhostBlkPlaceTest : public VhostBlkFixture {
 protected:
  void SetUp() override {
    VhostBlkFixture::SetUp();
    other_vm_ = std::make_shared<qmp::Client>(qmp::ClientOptions{.address = other_.address()});
    Configure({vm_, other_vm_});
  }
  void Configure(const std::vector<std::shared_ptr<qmp::Client>>& vms) {
    std::vector<qmp::Bus> buses;
    for (const auto& vm : vms) buses.push_back({"bus0", 32, vm});
    options_.buses = qmp::Buses(std::move(buses), true, &clients_);
    StartManager();
  }
  void CreateRecorded() {
    device_ = Device();
    const OutcomeOr<CreatedDevice> created =
        manager_->CreateDevice(context_, device_, volumes_.data());
    ASSERT_TRUE(created.ok()) << created.status();
    ASSERT_NE(created->place, "");
    device_.place = created->place;
    volumes_[0].attachment = created->attachment;
    target_.SetVhostSessions("sma-0", 1);
  }
  RestoreResult Restore(const DeviceListing* listing = nullptr) {
    return manager_->Restore(context_,
                             {.device = device_, .volumes = volumes_, .listing = listing});
  }
  Outcome DeleteRecorded() {
    // The VM's character device closes its connection.
    if (!qemu_.HasDevice("sma-0")) target_.SetVhostSessions("sma-0", 0);
    return manager_->DeleteDevice(context_, device_, volumes_);
  }

  qmp::FakeQemu other_;
  std::shared_ptr<qmp::Client> other_vm_;
  qmp::VmClients clients_;
  DeviceSpec device_;
  std::vector<DeviceVolume> volumes_{Volume()};
};

TEST_F(VhostBlkPlaceTest, ADeviceStaysInItsVmIfTheBusesAreReordered) {
  CreateRecorded();
  const DeviceSpec recorded = device_;
  for (const char* place : {recorded.place.c_str(), ""}) {  // "": of an earlier agent
    Configure({other_vm_, vm_});
    device_.place = place;
    auto listing = manager_->List(context_);
    ASSERT_TRUE(listing.ok());
    for (const DeviceListing* with : {listing->get(), static_cast<DeviceListing*>(nullptr)}) {
      const RestoreResult result = Restore(with);
      EXPECT_EQ(result.status.code(), StatusCode::kFailedPrecondition) << result.status;
      EXPECT_TRUE(result.volumes[0].attachment.ok());
      EXPECT_EQ(result.place, recorded.place);
    }
    EXPECT_THAT(other_.devices(), IsEmpty());
    EXPECT_THAT(other_.chardevs(), IsEmpty());
    EXPECT_TRUE(qemu_.HasDevice("sma-0"));
  }
  device_ = recorded;
  EXPECT_EQ(manager_->NeighbourOf(device_), "VM at " + qemu_.address().ToString());
  target_.SetVhostSessions("sma-0", 0);
  EXPECT_TRUE(DeleteRecorded().ok());
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  EXPECT_EQ(target_.Dump(), empty_);
}

// Its VM is restarted, and no longer has the device.
TEST_F(VhostBlkPlaceTest, ADeviceIsNotPluggedIntoTheVmThatIsConfiguredNow) {
  CreateRecorded();
  KillQemu();
  target_.SetVhostSessions("sma-0", 0);
  Configure({other_vm_, vm_});
  EXPECT_EQ(Restore().status.code(), StatusCode::kFailedPrecondition);
  qemu_.Start();
  EXPECT_EQ(Restore().status.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(other_.devices(), IsEmpty());
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  Configure({vm_, other_vm_});
  EXPECT_TRUE(Restore().status.ok());
  EXPECT_TRUE(qemu_.HasDevice("sma-0"));
}

TEST_F(VhostBlkPlaceTest, ADeviceOfARemovedBusIsUnpluggedFromItsVm) {
  CreateRecorded();
  target_.SetVhostSessions("sma-0", 0);
  vm_.reset();  // QEMU serves one client at a time
  Configure({});
  EXPECT_TRUE(DeleteRecorded().ok());
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(VhostBlkPlaceTest, AnotherVmAtTheAddressGetsNothing) {
  qemu_.SetUuid(kUuid);
  CreateRecorded();
  KillQemu();
  target_.SetVhostSessions("sma-0", 0);
  qemu_.SetUuid(kOtherUuid);
  qemu_.Start();
  EXPECT_EQ(Restore().status.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  EXPECT_TRUE(DeleteRecorded().ok());
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(VhostBlkPlaceTest, AVmIsKnownByItsUuidAtAnotherAddress) {
  qemu_.SetUuid(kUuid);
  CreateRecorded();
  KillQemu();
  target_.SetVhostSessions("sma-0", 0);
  other_.SetUuid(kUuid);
  Configure({other_vm_});
  const RestoreResult result = Restore();
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_TRUE(other_.HasDevice("sma-0"));
  device_.place = result.place;
  EXPECT_EQ(manager_->NeighbourOf(device_), "VM at " + other_.address().ToString());
}

TEST_F(VhostBlkPlaceTest, AControllerThatAnotherVmUsesIsNotPlugged) {
  CreateRecorded();
  KillQemu();
  qemu_.Start();
  EXPECT_EQ(Restore().status.code(), StatusCode::kAlreadyExists);
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  target_.SetVhostSessions("sma-0", 0);
  EXPECT_TRUE(Restore().status.ok());
  EXPECT_TRUE(qemu_.HasDevice("sma-0"));
}

// An operator has unplugged the disk, whose character device is still connected.
TEST_F(VhostBlkPlaceTest, TheVmsOwnCharacterDeviceIsUsedAgain) {
  CreateRecorded();
  qemu_.RemoveByHand("sma-0");
  EXPECT_TRUE(Restore().status.ok());
  EXPECT_TRUE(qemu_.HasDevice("sma-0"));
}

TEST_F(VhostBlkPlaceTest, ACharacterDeviceOfAnotherClientIsNotUsed) {
  qemu_.AddChardevByHand("sma-0", "/run/other-target/sma-0");
  EXPECT_EQ(Create(0).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(target_.Dump(), empty_);
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  EXPECT_THAT(qemu_.chardevs(), ElementsAre(Key("sma-0")));
}

TEST_F(VhostBlkPlaceTest, ADeviceOfAnotherClientIsNotTheDevice) {
  CreateRecorded();
  qemu_.AddChardevByHand("sma-0", "/run/other-target/sma-0");
  target_.SetVhostSessions("sma-0", 0);
  const auto devices = qemu_.devices();
  const auto chardevs = qemu_.chardevs();
  EXPECT_EQ(Restore().status.code(), StatusCode::kAlreadyExists);
  auto listing = manager_->List(context_);
  ASSERT_TRUE(listing.ok());
  EXPECT_EQ(Restore(listing->get()).status.code(), StatusCode::kAlreadyExists);
  EXPECT_TRUE(DeleteRecorded().ok());
  EXPECT_EQ(qemu_.devices(), devices);
  EXPECT_EQ(qemu_.chardevs(), chardevs);
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(VhostBlkPlaceTest, ADeviceIsKnownByTheSocketThatItWasPluggedWith) {
  CreateRecorded();
  options_.socket_folder = "/run/moved";
  StartManager();
  EXPECT_TRUE(Restore().status.ok());
  target_.SetVhostSessions("sma-0", 0);
  EXPECT_TRUE(DeleteRecorded().ok());
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  EXPECT_THAT(qemu_.chardevs(), IsEmpty());
}

}  // namespace
}  // namespace sma::vhost_blk
