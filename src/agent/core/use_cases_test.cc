// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/core/testing/agent_fixture.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using jsonrpc::Json;
using jsonrpc::Request;
using spdk::Fault;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class UseCasesTest : public AgentFixture {
 protected:
  void SetUp() override {
    AgentFixture::SetUp();
    for (int volume = 1; volume <= 4; ++volume) target_.AddBdev(VolumeUuid(volume));
    target_.ResetCounts();
  }
};

TEST_F(UseCasesTest, EachCallTakesOneRoundTrip) {
  auto round_trips = [this](absl::Status status) {
    EXPECT_TRUE(status.ok()) << status;
    uint64_t count = target_.round_trips();
    target_.ResetCounts();
    return count;
  };
  EXPECT_EQ(round_trips(Create(0, 1)), 1u);
  EXPECT_EQ(round_trips(Create(0, 1)), 1u);
  EXPECT_EQ(round_trips(Attach(Handle(0), 2)), 1u);
  EXPECT_EQ(round_trips(Attach(Handle(0), 2)), 1u);
  EXPECT_THAT(Namespaces(0), ElementsAre(VolumeUuid(1), VolumeUuid(2)));
  // An action that cannot be rolled back takes one more round trip: the agent first checks that the
  // object still belongs to this device.
  EXPECT_EQ(round_trips(Detach(Handle(0), 2)), 2u);
  EXPECT_EQ(round_trips(Detach(Handle(0), 2)), 0u);
  EXPECT_THAT(Namespaces(0), ElementsAre(VolumeUuid(1)));
  EXPECT_EQ(round_trips(Delete(Handle(0))), 2u);
  EXPECT_EQ(round_trips(Delete(Handle(0))), 0u);
  EXPECT_TRUE(Subsystem(0).is_null());
}

TEST_F(UseCasesTest, BadRequestsAreRefusedUntouched) {
  EXPECT_EQ(Create(CreateDeviceRequest()).code(), StatusCode::kInvalidArgument);
  CreateDeviceRequest other_type;
  other_type.mutable_nvme();
  EXPECT_EQ(Create(other_type).code(), StatusCode::kInvalidArgument);
  CreateDeviceRequest bad_nqn = CreateRequest(0);
  bad_nqn.mutable_nvmf_tcp()->set_subnqn("x");
  EXPECT_EQ(Create(bad_nqn).code(), StatusCode::kInvalidArgument);
  CreateDeviceRequest bad_volume = CreateRequest(0);
  bad_volume.mutable_volume()->set_volume_id("short");
  EXPECT_EQ(Create(bad_volume).code(), StatusCode::kInvalidArgument);
  AttachVolumeRequest no_volume;
  no_volume.set_device_handle(Handle(0));
  EXPECT_EQ(core_->agent().AttachVolume(context_, no_volume).status().code(),
            StatusCode::kInvalidArgument);
  DetachVolumeRequest no_id;
  no_id.set_device_handle(Handle(0));
  EXPECT_EQ(core_->agent().DetachVolume(context_, no_id).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(target_.calls(), 0u);
}

TEST_F(UseCasesTest, UnknownDevicesAndVolumes) {
  EXPECT_EQ(Attach(Handle(7), 1).code(), StatusCode::kNotFound);
  EXPECT_EQ(Attach("bad", 1).code(), StatusCode::kNotFound);
  EXPECT_TRUE(Detach(Handle(7), 1).ok());
  EXPECT_EQ(Detach("bad", 1).code(), StatusCode::kNotFound);
  EXPECT_TRUE(Delete(Handle(7)).ok());
  EXPECT_EQ(Delete("bad").code(), StatusCode::kNotFound);
  ASSERT_TRUE(Create(0).ok());
  EXPECT_EQ(Attach(Handle(0), 99).code(), StatusCode::kNotFound);
  EXPECT_EQ(Create(1, 99).code(), StatusCode::kNotFound);
  EXPECT_TRUE(Subsystem(1).is_null());
}

TEST_F(UseCasesTest, OtherParametersOrVolumesAreRefused) {
  ASSERT_TRUE(Create(0, 1).ok());
  const std::string before = target_.Dump();
  CreateDeviceRequest other = CreateRequest(0, 1);
  other.mutable_nvmf_tcp()->set_trsvcid("4421");
  EXPECT_EQ(Create(other).code(), StatusCode::kAlreadyExists);
  other = CreateRequest(0, 1);
  other.mutable_nvmf_tcp()->set_allow_any_host(true);
  EXPECT_EQ(Create(other).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(Create(0, 2).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(Create(1, 1).code(), StatusCode::kAlreadyExists);
  ASSERT_TRUE(Create(0).ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(UseCasesTest, VolumeIsAttachedToAnExistingDevice) {
  ASSERT_TRUE(Create(0).ok());
  ASSERT_TRUE(Create(0, 1).ok());
  EXPECT_THAT(Namespaces(0), ElementsAre(VolumeUuid(1)));
}

TEST_F(UseCasesTest, VolumeBelongsToOneDevice) {
  ASSERT_TRUE(Create(0, 1).ok());
  ASSERT_TRUE(Create(1).ok());
  target_.ResetCounts();
  EXPECT_EQ(Attach(Handle(1), 1).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(target_.calls(), 0u);
}

TEST_F(UseCasesTest, DevicesShareAListenerAddress) {
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Create(i).ok());
  ASSERT_TRUE(Delete(Handle(1)).ok());
  EXPECT_THAT(Subsystem(0)["listen_addresses"], SizeIs(1));
  EXPECT_THAT(Subsystem(2)["listen_addresses"], SizeIs(1));
}

TEST_F(UseCasesTest, Defect02_DevicesAndVolumesSurviveARestart) {
  ASSERT_TRUE(Create(0, 1).ok());
  ASSERT_TRUE(Create(1).ok());
  const std::string before = target_.Dump();
  Crash();
  Open();
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(Attach(Handle(1), 1).code(), StatusCode::kAlreadyExists);
  EXPECT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_THAT(Namespaces(0), IsEmpty());
}

TEST_F(UseCasesTest, Defect03_FailedRepeatLeavesTheDevice) {
  ASSERT_TRUE(Create(0, 1).ok());
  const std::string before = target_.Dump();
  target_.SetFaultPlan([](uint64_t, const Request&) { return Fault::kRefuse; });
  EXPECT_FALSE(Create(0, 1).ok());
  target_.SetFaultPlan(nullptr);
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(UseCasesTest, Defect04_DetachFromAnotherDeviceDoesNothing) {
  ASSERT_TRUE(Create(0, 1).ok());
  ASSERT_TRUE(Create(1).ok());
  const std::string before = target_.Dump();
  EXPECT_TRUE(Detach(Handle(1), 1).ok());
  EXPECT_TRUE(Detach(Handle(7), 1).ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(UseCasesTest, Defect05_HostsOfAnOperatorStayAndRepeatsWork) {
  ASSERT_TRUE(Create(0).ok());
  Operator("nvmf_subsystem_add_host", {{"nqn", Nqn(0)}, {"host", "nqn.2016-06.io.spdk:op"}});
  const std::string before = target_.Dump();
  EXPECT_TRUE(Create(0).ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(UseCasesTest, Defect10_WhatIsNotInTheRecordIsNotTouched) {
  Operator("nvmf_create_subsystem", {{"nqn", Nqn(0)}, {"allow_any_host", true}});
  const std::string before = target_.Dump();
  EXPECT_TRUE(Delete(Handle(0)).ok());
  EXPECT_EQ(Delete("nvmf-tcp;" + Nqn(0)).code(), StatusCode::kNotFound);
  EXPECT_EQ(Create(0).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(Create(0, 1).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(UseCasesTest, Defect11_FailedListingIsNotAbsence) {
  ASSERT_TRUE(Create(0, 1).ok());
  target_.SetFaultPlan([](uint64_t, const Request&) { return Fault::kRefuse; });
  EXPECT_FALSE(Detach(Handle(0), 1).ok());
  EXPECT_FALSE(Delete(Handle(0)).ok());
  target_.SetFaultPlan(nullptr);
}

TEST_F(UseCasesTest, Defect12_CryptoIsNotAnsweredOkInClear) {
  ASSERT_TRUE(Create(0, 1).ok());
  AttachVolumeRequest request;
  request.set_device_handle(Handle(0));
  request.mutable_volume()->set_volume_id(Id(1));
  request.mutable_volume()->mutable_crypto()->set_key("00");
  EXPECT_EQ(core_->agent().AttachVolume(context_, request).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_F(UseCasesTest, Defect14_VolumeIsNotRecordedForAMissingDevice) {
  EXPECT_EQ(Attach(Handle(7), 1).code(), StatusCode::kNotFound);
  ASSERT_TRUE(Create(0, 1).ok());
}

TEST_F(UseCasesTest, Defect18_TargetDownIsUnavailable) {
  ASSERT_TRUE(Create(0, 1).ok());
  target_.SetDown(true);
  EXPECT_EQ(Create(1).code(), StatusCode::kUnavailable);
  EXPECT_EQ(Create(0).code(), StatusCode::kUnavailable);
  EXPECT_EQ(Attach(Handle(0), 2).code(), StatusCode::kUnavailable);
  EXPECT_EQ(Detach(Handle(0), 1).code(), StatusCode::kUnavailable);
  EXPECT_EQ(Delete(Handle(0)).code(), StatusCode::kUnavailable);
  target_.SetDown(false);
  // Some clients never repeat DetachVolume and DeleteDevice: the agent completes both on its own.
  WaitFor([this] { return Subsystem(0).is_null(); });
  EXPECT_TRUE(Subsystem(1).is_null());
}

TEST_F(UseCasesTest, Defect29_PassedDeadlineLeavesNothing) {
  const std::string before = target_.Dump();
  target_.SetRoundTrip(std::chrono::milliseconds(30));
  context_ = base::Context::WithTimeout(std::chrono::milliseconds(10));
  EXPECT_EQ(Create(0, 1).code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(core_->record().device_count(), 0u);
  EXPECT_EQ(core_->record().volume_count(), 0u);
}

TEST_F(UseCasesTest, Defect29_ErrorsHoldTheTargetsWords) {
  CreateDeviceRequest request = CreateRequest(0);
  request.mutable_nvmf_tcp()->set_traddr("10.9.8.7");
  absl::Status status = Create(request);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(HasSubstr(Handle(0)), HasSubstr("10.9.8.7"), HasSubstr("-32602"),
                             HasSubstr("Invalid parameters")));
}

TEST_F(UseCasesTest, Defect32_NoFullListingInARequest) {
  ASSERT_TRUE(Create(0, 1).ok());
  ASSERT_TRUE(Create(0, 1).ok());
  ASSERT_TRUE(Attach(Handle(0), 2).ok());
  ASSERT_TRUE(Detach(Handle(0), 2).ok());
  target_.SetFaultPlan([](uint64_t, const Request& request) {
    EXPECT_FALSE(request.params.is_null()) << request.method;
    return Fault::kNone;
  });
  ASSERT_TRUE(Create(1, 3).ok());
  ASSERT_TRUE(Create(1, 3).ok());
  ASSERT_TRUE(Attach(Handle(1), 2).ok());
  ASSERT_TRUE(Detach(Handle(1), 2).ok());
  ASSERT_TRUE(Delete(Handle(1)).ok());
  target_.SetFaultPlan(nullptr);
}

TEST_F(UseCasesTest, DeleteMayRefuseVolumes) {
  Crash();
  options_.refuse_delete_with_volumes = true;
  Open();
  ASSERT_TRUE(Create(0, 1).ok());
  EXPECT_EQ(Delete(Handle(0)).code(), StatusCode::kFailedPrecondition);
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_TRUE(Delete(Handle(0)).ok());
}

TEST_F(UseCasesTest, VolumeIsFreeAfterItsDeviceIsDeleted) {
  ASSERT_TRUE(Create(0, 1).ok());
  ASSERT_TRUE(Delete(Handle(0)).ok());
  EXPECT_TRUE(Create(1, 1).ok());
}

TEST_F(UseCasesTest, FullDiskRefusesAndLeavesNothing) {
  ASSERT_TRUE(Create(0, 1).ok());
  const std::string before = target_.Dump();
  disk_->fault = [](record::Durability) { return absl::ResourceExhaustedError("disk full"); };
  EXPECT_EQ(Create(1, 2).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(Attach(Handle(0), 2).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(Detach(Handle(0), 1).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(Delete(Handle(0)).code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(Create(0, 1).ok());
  disk_->fault = nullptr;
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(UseCasesTest, DiskThatFillsDuringACallLeavesNothing) {
  const std::string before = target_.Dump();
  disk_->fault = [](record::Durability durability) {
    return durability == record::Durability::kHost ? absl::ResourceExhaustedError("disk full")
                                                   : absl::OkStatus();
  };
  EXPECT_EQ(Create(0, 1).code(), StatusCode::kResourceExhausted);
  disk_->fault = nullptr;
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(core_->record().device_count(), 0u);
}

// A device that the reference implementation created is adopted unchanged; a device that differs is
// not.
TEST_F(UseCasesTest, EqualDeviceIsAdoptedUntouched) {
  ASSERT_TRUE(Create(0, 1).ok());
  const std::string before = target_.Dump();
  Crash();
  *disk_ = record::MemoryDisk();
  Open();
  CreateDeviceRequest other = CreateRequest(0, 1);
  other.mutable_nvmf_tcp()->set_trsvcid("4421");
  EXPECT_EQ(Create(other).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(Create(0, 2).code(), StatusCode::kAlreadyExists);
  EXPECT_TRUE(Create(0, 1).ok());
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_THAT(Namespaces(0), IsEmpty());
  EXPECT_TRUE(Delete(Handle(0)).ok());
  EXPECT_TRUE(Subsystem(0).is_null());
}

TEST_F(UseCasesTest, NsidsThatAreReusedAreNotRemoved) {
  ASSERT_TRUE(Create(0, 1).ok());
  Operator("bdev_null_delete", {{"name", VolumeUuid(1)}});
  ASSERT_TRUE(Attach(Handle(0), 2).ok());
  int removals = 0;
  target_.SetFaultPlan([&](uint64_t, const Request& request) {
    if (request.method == "nvmf_subsystem_remove_ns") ++removals;
    return Fault::kNone;
  });
  EXPECT_TRUE(Detach(Handle(0), 1).ok());
  target_.SetFaultPlan(nullptr);
  EXPECT_EQ(removals, 0);
  EXPECT_THAT(Namespaces(0), ElementsAre(VolumeUuid(2)));
}

class QosTest : public UseCasesTest {
 protected:
  void SetUp() override {
    UseCasesTest::SetUp();
    ASSERT_TRUE(Create(0, 1).ok());
  }
  absl::Status Set(const std::string& handle, int volume, std::optional<QosLimit> maximum) {
    SetQosRequest request;
    request.set_device_handle(handle);
    if (volume != 0) request.set_volume_id(Id(volume));
    if (maximum) *request.mutable_maximum() = *maximum;
    return core_->agent().SetQos(context_, request).status();
  }
  static QosLimit Iops(uint64_t rw_iops, uint64_t others = 0) {
    QosLimit limits;
    limits.set_rw_iops(rw_iops);
    limits.set_rd_bandwidth(others);
    limits.set_wr_bandwidth(others);
    limits.set_rw_bandwidth(others);
    return limits;
  }
  uint64_t IopsOf(int volume) {
    auto bdevs = target_.Operator("bdev_get_bdevs", {{"name", VolumeUuid(volume)}});
    return (*bdevs)[0]["assigned_rate_limits"]["rw_ios_per_sec"];
  }
};

TEST_F(QosTest, LimitsAreSetKeptAndRemoved) {
  ASSERT_TRUE(Set(Handle(0), 1, Iops(2)).ok());
  EXPECT_EQ(IopsOf(1), 2000u);
  ASSERT_TRUE(Set(Handle(0), 1, Iops(UINT64_MAX, 5)).ok());
  EXPECT_EQ(IopsOf(1), 2000u);
  ASSERT_TRUE(Set(Handle(0), 1, Iops(0)).ok());
  EXPECT_EQ(IopsOf(1), 0u);
}

TEST_F(QosTest, Defect26_AnEmptyRequestChangesNothing) {
  ASSERT_TRUE(Set(Handle(0), 1, Iops(2)).ok());
  EXPECT_TRUE(Set(Handle(0), 1, std::nullopt).ok());
  EXPECT_TRUE(Set(Handle(0), 1, Iops(UINT64_MAX, UINT64_MAX)).ok());
  EXPECT_EQ(IopsOf(1), 2000u);
}

TEST_F(QosTest, ErrorsHaveDifferentCodes) {
  ASSERT_TRUE(Create(1, 2).ok());
  QosLimit unsupported;
  unsupported.set_rd_iops(1);
  EXPECT_EQ(Set(Handle(0), 1, unsupported).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Set(Handle(0), 0, Iops(1)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Set(Handle(7), 1, Iops(1)).code(), StatusCode::kNotFound);
  EXPECT_EQ(Set(Handle(0), 99, Iops(1)).code(), StatusCode::kNotFound);
  EXPECT_EQ(Set(Handle(0), 2, Iops(1)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Set(Handle(0), 3, Iops(1)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Set(Handle(0), 1, Iops(UINT64_MAX / 1000 + 1)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(IopsOf(1), 0u);
}

TEST_F(QosTest, LimitsFollowTheVolume) {
  ASSERT_TRUE(Set(Handle(0), 1, Iops(2)).ok());
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  target_.Restart();
  target_.AddBdev(VolumeUuid(1));
  EXPECT_EQ(IopsOf(1), 0u);
  WaitFor([this] { return !Subsystem(0).is_null(); });
  ASSERT_TRUE(Attach(Handle(0), 1).ok());
  EXPECT_EQ(IopsOf(1), 2000u);
}

TEST_F(QosTest, ALostAnswerRollsTheLimitsBack) {
  ASSERT_TRUE(Set(Handle(0), 1, Iops(2)).ok());
  target_.ResetCounts();
  target_.SetFaultPlan([](uint64_t, const Request& request) {
    bool hit = request.method == "bdev_set_qos_limit" && request.params["rw_ios_per_sec"] == 9000;
    return hit ? Fault::kLoseAnswer : Fault::kNone;
  });
  EXPECT_EQ(Set(Handle(0), 1, Iops(9)).code(), StatusCode::kUnavailable);
  target_.SetFaultPlan(nullptr);
  WaitFor([this] { return IopsOf(1) == 2000; });
}

TEST_F(QosTest, Capabilities) {
  GetQosCapabilitiesRequest request;
  request.set_device_type(DEVICE_TYPE_NVMF_TCP);
  auto response = core_->agent().GetQosCapabilities(context_, request);
  ASSERT_TRUE(response.ok());
  EXPECT_TRUE(response->max_volume_caps().rw_iops());
  EXPECT_FALSE(response->has_max_device_caps());
  for (int type : {0, 1, 2, 1234}) {
    request.set_device_type(static_cast<DeviceType>(type));
    EXPECT_EQ(core_->agent().GetQosCapabilities(context_, request).status().code(),
              StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace sma::core
