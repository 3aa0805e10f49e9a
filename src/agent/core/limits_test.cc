// SPDX-License-Identifier: Apache-2.0

// Tests how limits are reported, and which of them outlive their volume or device.

#include <gtest/gtest.h>

#include <atomic>

#include "agent/core/testing/agent_fixture.h"

namespace sma::core {
namespace {

class LimitsTest : public AgentFixture {
 protected:
  void SetUp() override {
    AgentFixture::SetUp();
    target_.AddBdev(VolumeUuid(1));
    ASSERT_TRUE(Create(1, 1).ok());
  }
  absl::Status SetIops(uint64_t rw_iops) {
    SetQosRequest request;
    request.set_device_handle(Handle(1));
    request.set_volume_id(Id(1));
    request.mutable_maximum()->set_rw_iops(rw_iops);
    for (auto set : {&QosLimit::set_rd_iops, &QosLimit::set_wr_iops, &QosLimit::set_rd_bandwidth,
                     &QosLimit::set_wr_bandwidth, &QosLimit::set_rw_bandwidth}) {
      (request.mutable_maximum()->*set)(UINT64_MAX);
    }
    return core_->agent().SetQos(context_, request).status();
  }
  uint64_t IopsOnTarget() {
    auto bdevs = target_.Operator("bdev_get_bdevs", {{"name", VolumeUuid(1)}});
    return (*bdevs)[0]["assigned_rate_limits"]["rw_ios_per_sec"];
  }
  admin::v1::Volume Volume() {
    admin::v1::GetVolumeRequest request;
    request.set_volume_id(Id(1));
    return *core_->admin().GetVolume(context_, request);
  }
  /// Returns the status of the condition LimitsApplied.
  admin::v1::Condition::Status Applied() {
    const admin::v1::Volume volume = Volume();
    for (const admin::v1::Condition& condition : volume.conditions()) {
      if (condition.type() == "LimitsApplied") return condition.status();
    }
    return admin::v1::Condition::STATUS_UNSPECIFIED;
  }
};

TEST_F(LimitsTest, Defect58_LimitsNeverSetAreReportedAsUnlimited) {
  EXPECT_FALSE(Volume().has_qos());
  ASSERT_TRUE(SetIops(5).ok());
  EXPECT_EQ(Volume().qos().rw_iops(), 5u);
  EXPECT_EQ(Volume().qos().rd_bandwidth(), 0u);
  EXPECT_EQ(Volume().qos().rw_bandwidth(), 0u);
  ASSERT_TRUE(SetIops(0).ok());
  EXPECT_FALSE(Volume().has_qos());
}

TEST_F(LimitsTest, Defect44_ALimitIsRemovedFromTheBdevWithTheVolume) {
  for (bool delete_device : {false, true}) {
    ASSERT_TRUE(SetIops(5).ok());
    EXPECT_EQ(IopsOnTarget(), 5000u);
    ASSERT_TRUE((delete_device ? Delete(Handle(1)) : Detach(Handle(1), 1)).ok());
    EXPECT_EQ(IopsOnTarget(), 0u) << delete_device;
    if (delete_device) continue;
    ASSERT_TRUE(Attach(Handle(1), 1).ok());
    EXPECT_EQ(IopsOnTarget(), 5000u) << "they belong to the volume";
  }
}

TEST_F(LimitsTest, Defect61_LimitsOfDetachedVolumesExpire) {
  ASSERT_TRUE(SetIops(5).ok());
  ASSERT_TRUE(Delete(Handle(1)).ok());
  EXPECT_EQ(disk_->limits.size(), 1u) << "it may be attached again";
  Crash();
  options_.keep_limits = std::chrono::nanoseconds(0);
  Open();
  WaitFor([this] { return disk_->limits.empty(); });
}

TEST_F(LimitsTest, Defect61_TheNumberOfKeptLimitsIsBounded) {
  ASSERT_TRUE(SetIops(5).ok());
  ASSERT_TRUE(Delete(Handle(1)).ok());
  Crash();
  options_.max_kept_limits = 0;
  Open();
  WaitFor([this] { return disk_->limits.empty(); });
}

TEST_F(LimitsTest, LimitsOfAnAttachedVolumeAreNotDropped) {
  ASSERT_TRUE(SetIops(5).ok());
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  ASSERT_TRUE(Attach(Handle(1), 1).ok());
  Crash();
  options_.keep_limits = std::chrono::nanoseconds(0);
  options_.max_kept_limits = 0;
  Open();
  core_->OnConnect(target_.generation());
  WaitUntilServing();
  EXPECT_EQ(Volume().qos().rw_iops(), 5u);
}

TEST_F(LimitsTest, LimitsThatAreNotAppliedSetACondition) {
  ASSERT_TRUE(SetIops(5).ok());
  EXPECT_EQ(Applied(), admin::v1::Condition::STATUS_TRUE);
  target_.SetFaultPlan([](uint64_t, const jsonrpc::Request& request) {
    return request.method == "bdev_set_qos_limit" ? spdk::Fault::kLoseAnswer : spdk::Fault::kNone;
  });
  EXPECT_FALSE(SetIops(7).ok());
  EXPECT_EQ(Applied(), admin::v1::Condition::STATUS_FALSE);
  target_.SetFaultPlan(nullptr);
  WaitFor([&] { return Applied() == admin::v1::Condition::STATUS_TRUE; });
  EXPECT_EQ(IopsOnTarget(), 5000u);
}

TEST_F(LimitsTest, LimitsAreNotAppliedWhileTheyAreBeingRestored) {
  ASSERT_TRUE(SetIops(5).ok());
  std::atomic<int> tries = 0;
  target_.SetFaultPlan([&](uint64_t, const jsonrpc::Request& request) {
    if (request.method != "bdev_set_qos_limit") return spdk::Fault::kNone;
    ++tries;
    return spdk::Fault::kLoseAnswer;
  });
  EXPECT_FALSE(SetIops(7).ok());
  int told_as_applied = 0;
  WaitFor([&] {
    for (int i = 0; i < 1000; ++i) {
      if (Applied() != admin::v1::Condition::STATUS_FALSE) ++told_as_applied;
    }
    return tries >= 8;
  });
  EXPECT_EQ(told_as_applied, 0);
  target_.SetFaultPlan(nullptr);
  WaitFor([&] { return Applied() == admin::v1::Condition::STATUS_TRUE; });
}

}  // namespace
}  // namespace sma::core
