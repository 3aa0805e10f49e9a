// SPDX-License-Identifier: Apache-2.0

// Tests which VM has a device after changes of the configuration, and beside other clients of VMs.

#include <gmock/gmock.h>

#include "devices/vfiouser/testing/vfiouser_fixture.h"

namespace sma::vfiouser {
namespace {

using jsonrpc::Json;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::IsEmpty;

// Two VMs, each with a bus of 32 slots, and a device in the first one.
class VfioUserPlaceTest : public VfioUserTest {
 protected:
  void SetUp() override {
    VfioUserTest::SetUp();
    Configure({vm_, other_vm_});
    auto device = manager_->Describe(RequestFor(1));
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *device;
  }
  void Configure(const std::vector<std::shared_ptr<qmp::Client>>& vms) {
    manager_.reset();
    Options options;
    std::vector<qmp::Bus> buses;
    for (const auto& vm : vms) buses.push_back({.name = "bus0", .vm = vm});
    options.buses = qmp::Buses(std::move(buses), true, &clients_);
    options.socket_folder = folder_;
    options.unplug_wait = milliseconds(300);
    manager_ = std::make_unique<VfioUserManager>(target_, std::move(options));
  }
  void CreateRecorded() {
    const OutcomeOr<CreatedDevice> created = Create();
    ASSERT_TRUE(created.ok()) << created.status();
    ASSERT_NE(created->place, "");
    device_.place = created->place;
    target_.SetHostCount("nqn.2016-06.io.spdk:vfiouser-1", 1);
  }
  RestoreResult Restore(const DeviceListing* listing = nullptr) {
    return manager_->Restore(context_, {.device = device_, .volumes = {}, .listing = listing});
  }

  qmp::FakeQemu other_;
  std::shared_ptr<qmp::Client> other_vm_ = std::make_shared<qmp::Client>(
      qmp::ClientOptions{.address = other_.address(), .connect_wait = seconds(20)});
  qmp::VmClients clients_;
};

TEST_F(VfioUserPlaceTest, ADeviceStaysInItsVmIfTheBusesAreReordered) {
  CreateRecorded();
  const DeviceSpec recorded = device_;
  for (const char* place : {recorded.place.c_str(), ""}) {  // "": of an earlier agent
    Configure({other_vm_, vm_});
    device_.place = place;
    auto listing = manager_->List(context_);
    ASSERT_TRUE(listing.ok());
    for (const DeviceListing* with : {listing->get(), static_cast<DeviceListing*>(nullptr)}) {
      const RestoreResult result = Restore(with);
      EXPECT_EQ(result.status.code(), absl::StatusCode::kFailedPrecondition) << result.status;
      EXPECT_EQ(result.place, recorded.place);
    }
    EXPECT_THAT(other_.devices(), IsEmpty());
    EXPECT_TRUE(qemu_.HasDevice("vfiouser-1"));
  }
  device_ = recorded;
  EXPECT_EQ(manager_->NeighbourOf(device_), "VM at " + qemu_.address().ToString());
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(VfioUserPlaceTest, ADeviceOfARemovedBusIsUnpluggedFromItsVm) {
  CreateRecorded();
  vm_.reset();  // QEMU serves one client at a time
  Configure({});
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  EXPECT_THAT(qemu_.devices(), IsEmpty());
}

TEST_F(VfioUserPlaceTest, AnotherVmAtTheAddressGetsNothing) {
  qemu_.SetUuid("00000001-0000-0000-0000-000000000000");
  CreateRecorded();
  qemu_.Kill();
  qemu_.SetUuid("00000002-0000-0000-0000-000000000000");
  qemu_.Start();
  ConnectVm();
  Configure({vm_, other_vm_});
  EXPECT_EQ(Restore().status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  // It has a function of the same id, from another agent.
  const Json theirs{
      {"id", "vfiouser-1"}, {"driver", "vfio-user-pci"}, {"bus", "bus0"}, {"addr", 1}};
  qemu_.AddDeviceByHand(theirs);
  EXPECT_FALSE(Restore().status.ok());
  EXPECT_EQ(manager_->DeleteDevice(context_, device_, {}).code(), absl::StatusCode::kUnavailable)
      << "its VM is still connected";
  target_.SetHostCount("nqn.2016-06.io.spdk:vfiouser-1", 0);
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  EXPECT_EQ(qemu_.devices()["vfiouser-1"], theirs);
  EXPECT_EQ(target_.Dump(), empty_);
}

TEST_F(VfioUserPlaceTest, ADeviceThatAnotherVmUsesIsNotPlugged) {
  CreateRecorded();
  qemu_.RemoveByHand("vfiouser-1");
  EXPECT_FALSE(Restore().status.ok());
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  target_.SetHostCount("nqn.2016-06.io.spdk:vfiouser-1", 0);
  EXPECT_TRUE(Restore().status.ok());
  EXPECT_TRUE(qemu_.HasDevice("vfiouser-1"));
}

TEST_F(VfioUserPlaceTest, AnotherDriverBehindTheIdStays) {
  const Json theirs{
      {"id", "vfiouser-1"}, {"driver", "virtio-net-pci"}, {"bus", "bus0"}, {"addr", 1}};
  qemu_.AddDeviceByHand(theirs);
  EXPECT_EQ(manager_->FindExisting(context_, device_).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Create().status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(target_.Dump(), empty_);
  qemu_.RemoveByHand("vfiouser-1");
  CreateRecorded();
  qemu_.RemoveByHand("vfiouser-1");
  qemu_.AddDeviceByHand(theirs);
  target_.SetHostCount("nqn.2016-06.io.spdk:vfiouser-1", 0);
  EXPECT_EQ(Restore().status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(manager_->DeleteDevice(context_, device_, {}).ok());
  EXPECT_EQ(qemu_.devices()["vfiouser-1"], theirs);
}

}  // namespace
}  // namespace sma::vfiouser
