// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>

#include "devices/vhost_blk/testing/vhost_blk_fixture.h"

namespace sma::vhost_blk {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class VhostBlkRestoreTest : public VhostBlkFixture {
 protected:
  void SetUp() override {
    VhostBlkFixture::SetUp();
    device_ = Device(0);
    ASSERT_TRUE(Create(0).ok());
    complete_ = target_.Dump();
    target_.ResetCounts();
  }
  RestoreResult Restore(bool repair = true, const DeviceListing* listing = nullptr) {
    return manager_->Restore(
        context_, {.device = device_, .volumes = volumes_, .listing = listing, .repair = repair});
  }
  RestoreResult RestoreByListing() {
    auto listing = manager_->List(context_);
    EXPECT_TRUE(listing.ok()) << listing.status();
    return Restore(true, listing->get());
  }
  void ExpectComplete(const RestoreResult& result) {
    EXPECT_TRUE(result.status.ok()) << result.status;
    EXPECT_TRUE(result.volumes[0].attachment.ok()) << result.volumes[0].attachment.status();
    EXPECT_EQ(target_.Dump(), complete_);
    EXPECT_TRUE(qemu_.devices().contains("sma-0"));
  }

  DeviceSpec device_;
  std::vector<DeviceVolume> volumes_{Volume()};
  std::string complete_;
};

TEST_F(VhostBlkRestoreTest, CompleteDeviceTakesOneQuery) {
  RestoreResult result = Restore();
  ExpectComplete(result);
  EXPECT_THAT(result.differences, IsEmpty());
  EXPECT_FALSE(result.volumes[0].attached_again);
  EXPECT_EQ(target_.round_trips(), 1u);
  ExpectComplete(RestoreByListing());
}

// SPDK's answers are limited to 32 MiB, and a list of all bdevs may be larger.
TEST_F(VhostBlkRestoreTest, Defect56_AListingNeverAsksForAllBdevs) {
  std::vector<jsonrpc::Request> of_bdevs;
  target_.SetFaultPlan([&](uint64_t, const jsonrpc::Request& request) {
    if (request.method == "bdev_get_bdevs") of_bdevs.push_back(request);
    return spdk::Fault::kNone;
  });
  ExpectComplete(RestoreByListing());
  target_.ResetCounts();
  ExpectComplete(RestoreByListing());
  EXPECT_EQ(target_.round_trips(), 1u)
      << "bdevs of the last listing are queried in the first round trip";
  ASSERT_THAT(of_bdevs, Not(IsEmpty()));
  for (const jsonrpc::Request& request : of_bdevs) {
    EXPECT_TRUE(request.params.is_object() && request.params.contains("name"));
  }
}

TEST_F(VhostBlkRestoreTest, RestartedTargetGetsItsController) {
  target_.Restart();
  target_.AddBdev(kVolume);
  target_.AddBdev(kOtherVolume);
  EXPECT_THAT(Restore(/*repair=*/false).differences,
              ElementsAre("vhost controller sma-0 is missing"));
  target_.ResetCounts();
  RestoreResult result = RestoreByListing();
  EXPECT_EQ(target_.round_trips(), 2u) << "one for the listing, one for the controller";
  ExpectComplete(result);
  EXPECT_TRUE(result.volumes[0].attached_again);
  EXPECT_EQ(*result.volumes[0].attachment, BdevOf("sma-0").get<std::string>());
}

TEST_F(VhostBlkRestoreTest, FingerprintsChangeWithControllerAndBdev) {
  options_.buses = qmp::Buses({}, false);
  StartManager();
  std::set<uint64_t> seen{0};
  auto expect_new = [&](bool is_new) {
    uint64_t fingerprint = 0;
    for (int i = 0; i < 2; ++i) {  // the same each time
      auto listing = manager_->List(context_);
      ASSERT_TRUE(listing.ok()) << listing.status();
      const uint64_t now = manager_->FingerprintOf(**listing, device_.handle);
      EXPECT_EQ(now, i == 0 ? now : fingerprint);
      fingerprint = now;
      EXPECT_EQ(manager_->FingerprintOf(**listing, "virtio_blk:sma-1"), 0u);
      EXPECT_EQ(manager_->FingerprintOf(**listing, "sma-0"), 0u);
    }
    EXPECT_EQ(seen.insert(fingerprint).second, is_new);
  };
  expect_new(true);
  Operator("vhost_delete_controller", {{"ctrlr", "sma-0"}});
  expect_new(false);  // 0
  Operator("vhost_create_blk_controller", {{"ctrlr", "sma-0"}, {"dev_name", kOtherVolume}});
  expect_new(true);
  Operator("bdev_null_delete", {{"name", kOtherVolume}});
  expect_new(false);  // 0: without a bdev
}

// The target does not show whether a VM still has the device.
TEST_F(VhostBlkRestoreTest, DevicesOfVmsHaveNoFingerprint) {
  auto listing = manager_->List(context_);
  ASSERT_TRUE(listing.ok()) << listing.status();
  EXPECT_EQ(manager_->FingerprintOf(**listing, device_.handle), 0u);
}

TEST_F(VhostBlkRestoreTest, RestartedTargetWithoutTheBdevIsReported) {
  target_.Restart();
  RestoreResult result = RestoreByListing();
  EXPECT_EQ(result.status.code(), absl::StatusCode::kNotFound) << result.status;
  EXPECT_FALSE(result.volumes[0].attachment.ok());
  EXPECT_TRUE(qemu_.devices().contains("sma-0"));
}

TEST_F(VhostBlkRestoreTest, NewVmGetsItsDevice) {
  KillQemu();
  EXPECT_EQ(RestoreByListing().status.code(), absl::StatusCode::kUnavailable);
  qemu_.Start();
  EXPECT_THAT(Restore(/*repair=*/false).differences,
              ElementsAre("sma-0 is not plugged into its VM"));
  EXPECT_THAT(qemu_.devices(), IsEmpty());
  ExpectComplete(RestoreByListing());
}

TEST_F(VhostBlkRestoreTest, VmThatHasNotBootedKeepsItsDevice) {
  qemu_.SetBooted(false);
  RestoreResult result = Restore();
  ExpectComplete(result);
  EXPECT_THAT(result.differences, IsEmpty());
}

TEST_F(VhostBlkRestoreTest, BdevThatReappearsIsUsedAgain) {
  Operator("bdev_null_delete", {{"name", kVolume}});
  RestoreResult result = Restore();
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_FALSE(result.volumes[0].attachment.ok());
  target_.AddBdev(kVolume);
  result = Restore();
  ExpectComplete(result);
  EXPECT_TRUE(result.volumes[0].attached_again);
}

TEST_F(VhostBlkRestoreTest, ControllerWithAnotherBdevIsReportedAndNotChanged) {
  Operator("vhost_delete_controller", {{"ctrlr", "sma-0"}});
  Operator("vhost_create_blk_controller", {{"ctrlr", "sma-0"}, {"dev_name", kOtherVolume}});
  const std::string before = target_.Dump();
  RestoreResult result = Restore();
  EXPECT_THAT(result.differences, SizeIs(1));
  EXPECT_FALSE(result.volumes[0].attachment.ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(VhostBlkRestoreTest, TargetDownIsUnavailable) {
  target_.SetDown(true);
  RestoreResult result = Restore();
  EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(result.volumes[0].attachment.ok());
}

TEST_F(VhostBlkRestoreTest, CandidatesForAdoption) {
  Operator("vhost_create_blk_controller", {{"ctrlr", "sma-99"}, {"dev_name", kOtherVolume}});
  Operator("vhost_create_blk_controller", {{"ctrlr", "mine"}, {"dev_name", kOtherVolume}});
  auto listing = manager_->List(context_);
  ASSERT_TRUE(listing.ok());
  auto candidates = manager_->ListAdoptionCandidates(**listing, {});
  ASSERT_THAT(candidates, SizeIs(2));
  EXPECT_EQ(candidates[0].device.handle, "virtio_blk:sma-0");
  EXPECT_EQ(candidates[0].obstacle, "");
  ASSERT_THAT(candidates[0].volumes, SizeIs(1));
  EXPECT_EQ(candidates[0].volumes[0].id.ToString(), kVolume);
  EXPECT_THAT(candidates[1].obstacle, HasSubstr("physical_id"));
  const std::string known[] = {device_.handle};
  EXPECT_THAT(manager_->ListAdoptionCandidates(**listing, known), SizeIs(1));
}

}  // namespace
}  // namespace sma::vhost_blk
