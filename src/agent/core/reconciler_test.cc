// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>

#include "agent/core/testing/agent_fixture.h"

namespace sma::core {
namespace {

using jsonrpc::Json;
using jsonrpc::Request;
using spdk::Fault;
using testing::ElementsAre;
using testing::IsEmpty;

class ReconcilerTest : public AgentFixture {
 protected:
  void SetUp() override {
    AgentFixture::SetUp();
    AddBdevs();
  }
  admin::v1::Status Status() { return *core_->admin().GetStatus(context_, {}); }
};

TEST_F(ReconcilerTest, Defect19_EverythingIsRecreatedAfterTheTargetRestarted) {
  ASSERT_TRUE(Create(0, 1).ok());
  ASSERT_TRUE(Create(1).ok());
  ASSERT_TRUE(Attach(Handle(1), 2).ok());
  ASSERT_TRUE(Attach(Handle(1), 3).ok());
  ASSERT_TRUE(Detach(Handle(1), 2).ok());
  const std::string before = target_.Dump();
  target_.Restart();
  AddBdevs();
  WaitFor([&] { return target_.Dump() == before; });
}

// The bdevs reappear after a while: their volumes are attached again without a call.
TEST_F(ReconcilerTest, Defect20_VolumesAreAttachedAgainWhenTheirBdevsReappear) {
  ASSERT_TRUE(Create(0, 1).ok());
  const std::string before = target_.Dump();
  target_.Restart();
  WaitFor([&] { return !Subsystem(0).is_null(); });
  WaitFor([&] { return Status().degraded_count() > 0; });
  AddBdevs();
  WaitFor([&] { return target_.Dump() == before; });
  WaitFor([&] { return Status().degraded_count() == 0; });
}

TEST_F(ReconcilerTest, Defect21_ContinuesAfterErrors) {
  ASSERT_TRUE(Create(0, 1).ok());
  const std::string before = target_.Dump();
  target_.SetFaultPlan(
      [](uint64_t index, const Request&) { return index < 3 ? Fault::kRefuse : Fault::kNone; });
  target_.ResetCounts();
  target_.Restart();
  AddBdevs();
  WaitFor([&] { return target_.Dump() == before; });
}

TEST_F(ReconcilerTest, ObjectsOfAnOperatorStay) {
  ASSERT_TRUE(Create(0, 1).ok());
  Operator("nvmf_create_subsystem", {{"nqn", "nqn.2016-06.io.spdk:operator"}});
  Operator("nvmf_subsystem_add_host", {{"nqn", Nqn(0)}, {"host", "nqn.2016-06.io.spdk:op"}});
  const std::string before = target_.Dump();
  Crash();
  Open();
  EXPECT_EQ(target_.Dump(), before);
}

// The agent died during a call, on which the target may still act.
TEST_F(ReconcilerTest, WhatIsTooYoungToBeRemovedIsCheckedAgain) {
  ASSERT_TRUE(Create(0).ok());
  Crash();
  for (auto& [handle, row] : disk_->devices) {
    row.state = record::DeviceState::kCreating;
    row.state_since = std::chrono::system_clock::now();
  }
  options_.late_action_time = std::chrono::milliseconds(200);
  Open();
  EXPECT_EQ(core_->record().device_count(), 1u);
  WaitFor([&] { return core_->record().device_count() == 0; });
  EXPECT_TRUE(Subsystem(0).is_null());
}

class DriftTest : public ReconcilerTest {
 protected:
  void OpenWithDrift(bool repair) {
    Crash();
    options_.drift_period = std::chrono::milliseconds(2);
    options_.repair_drift = repair;
    Open();
  }
};

TEST_F(DriftTest, ObjectsRemovedByHandAreRecreated) {
  OpenWithDrift(/*repair=*/true);
  ASSERT_TRUE(Create(0, 1).ok());
  const std::string before = target_.Dump();
  Operator("nvmf_subsystem_remove_ns", {{"nqn", Nqn(0)}, {"nsid", 1}});
  WaitFor([&] { return target_.Dump() == before; });
  Operator("nvmf_delete_subsystem", {{"nqn", Nqn(0)}});
  WaitFor([&] { return target_.Dump() == before; });
}

TEST_F(DriftTest, DriftMayBeReportedOnly) {
  OpenWithDrift(/*repair=*/false);
  ASSERT_TRUE(Create(0, 1).ok());
  Operator("nvmf_delete_subsystem", {{"nqn", Nqn(0)}});
  const std::string broken = target_.Dump();
  WaitFor([&] { return Status().degraded_count() == 2; });
  EXPECT_EQ(target_.Dump(), broken);
  EXPECT_NE(core_->record().FindDevice(Handle(0))->last_error.message, "");
}

TEST_F(DriftTest, CallsInProgressAreNotTakenForDrift) {
  OpenWithDrift(/*repair=*/true);
  ASSERT_TRUE(Create(0).ok());
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(Attach(Handle(0), 1).ok());
    ASSERT_THAT(Namespaces(0), ElementsAre(VolumeUuid(1)));
    ASSERT_TRUE(Detach(Handle(0), 1).ok());
    ASSERT_THAT(Namespaces(0), IsEmpty());
  }
}

TEST_F(ReconcilerTest, AttachRestoresADeviceThatTheBackgroundHasNotReached) {
  ASSERT_TRUE(Create(0).ok());
  Operator("nvmf_delete_subsystem", {{"nqn", Nqn(0)}});
  EXPECT_TRUE(Attach(Handle(0), 1).ok());
  EXPECT_THAT(Namespaces(0), ElementsAre(VolumeUuid(1)));
}

TEST_F(ReconcilerTest, ARepeatedCreateRestoresTheDevice) {
  ASSERT_TRUE(Create(0, 1).ok());
  const std::string before = target_.Dump();
  Operator("nvmf_delete_subsystem", {{"nqn", Nqn(0)}});
  EXPECT_TRUE(Create(0, 1).ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(ReconcilerTest, ServesAgainWhenTheTargetIsBack) {
  EXPECT_TRUE(Status().serving());
  EXPECT_TRUE(Status().target().connected());
  EXPECT_EQ(Status().target().version(), "SPDK v26.09-pre (fake)");
  core_->OnDisconnect(1, absl::UnavailableError("gone"));
  EXPECT_FALSE(serving_);
  EXPECT_FALSE(Status().target().connected());
  EXPECT_EQ(Status().target().last_error().message(), "gone");
  core_->OnConnect(2);
  WaitUntilServing();
}

TEST_F(ReconcilerTest, ProgressOfTheRestoreIsReported) {
  constexpr uint32_t kDevices = 8;
  Crash();
  options_.restore_parallelism = 1;
  Open();
  for (uint32_t i = 0; i < kDevices; ++i) ASSERT_TRUE(Create(static_cast<int>(i)).ok());
  // The target stops answering in the middle of the restore.
  int created = 0;
  target_.SetFaultPlan([&](uint64_t, const Request& request) {
    const bool stops = request.method == "nvmf_create_subsystem" && ++created == 4;
    return stops ? Fault::kHang : Fault::kNone;
  });
  target_.Restart();
  WaitFor([&] { return Status().restore().done() == 3; });
  EXPECT_TRUE(Status().restore().active());
  EXPECT_EQ(Status().restore().total(), kDevices);
  EXPECT_FALSE(Status().serving());
  Crash();
  Open();
  WaitFor([&] { return !Status().restore().active(); });
  EXPECT_EQ(Status().restore().done(), kDevices);
  EXPECT_EQ(Status().restore().failed(), 0u);
}

TEST_F(ReconcilerTest, AThousandDevicesAreRestoredInTime) {
  constexpr int kDevices = 1000;
  target_.SetRoundTrip(std::chrono::nanoseconds(0));
  for (int i = 0; i < kDevices; ++i) {
    target_.AddBdev(VolumeUuid(1000 + i));
    ASSERT_TRUE(Create(i, 1000 + i).ok());
  }
  const std::string before = target_.Dump();
  target_.SetOnConnect(nullptr);
  core_->OnDisconnect(1, absl::UnavailableError("restart"));
  target_.Restart();
  AddBdevs();
  for (int i = 0; i < kDevices; ++i) target_.AddBdev(VolumeUuid(1000 + i));
  target_.SetRoundTrip(std::chrono::milliseconds(8));
  auto start = std::chrono::steady_clock::now();
  core_->OnConnect(target_.generation());
  WaitUntilServing();
  // EXPECT_EQ is not used, since printing the difference between such large texts takes gigabytes.
  WaitFor([&] { return target_.Dump() == before; });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  target_.SetRoundTrip(std::chrono::nanoseconds(0));
  EXPECT_TRUE(target_.Dump() == before) << "not compared by the test, which takes too much memory";
}

// A device type whose devices cannot be listed.
class UnlistedType : public nvmf_tcp::NvmfTcpManager {
 public:
  UnlistedType(jsonrpc::Caller& target, std::atomic<bool>& fails)
      : NvmfTcpManager(target), fails_(fails) {}
  absl::StatusOr<std::unique_ptr<DeviceListing>> ListOf(
      const base::Context& context, std::span<const std::string> handles) override {
    if (fails_) return absl::ResourceExhaustedError("the listing is too large");
    return NvmfTcpManager::ListOf(context, handles);
  }

 private:
  std::atomic<bool>& fails_;
};

// Calls `hook` once, on the thread that logs a line containing `words`.
class LogHook : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  LogHook(std::string words, std::function<void()> hook)
      : words_(std::move(words)), hook_(std::move(hook)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& line) override {
    const std::string_view text(line.payload.data(), line.payload.size());
    if (text.find(words_) == std::string_view::npos) return;
    if (auto hook = std::exchange(hook_, nullptr)) hook();
  }
  void flush_() override {}

  const std::string words_;
  std::function<void()> hook_;
};

class UnlistedTypeTest : public ReconcilerTest {
 protected:
  std::vector<std::unique_ptr<DeviceManager>> MakeManagers() override {
    std::vector<std::unique_ptr<DeviceManager>> managers;
    managers.push_back(std::make_unique<UnlistedType>(target_, fails_));
    return managers;
  }
  void TearDown() override {
    spdlog::set_default_logger(logger_);
    ReconcilerTest::TearDown();
  }

  const std::shared_ptr<spdlog::logger> logger_ = spdlog::default_logger();
  std::atomic<bool> fails_ = false;
};

// A device is deleted while the type's error is being written to the rows of all its devices.
TEST_F(UnlistedTypeTest, ADeletedDeviceIsNotRecreatedByItsTypesError) {
  ASSERT_TRUE(Create(1).ok());
  ASSERT_TRUE(Create(2).ok());
  Crash();
  std::atomic<bool> is_deleted = false;
  auto hook = std::make_shared<LogHook>("the listing is too large", [&] {
    EXPECT_TRUE(Delete(Handle(1)).ok());
    is_deleted = true;
  });
  spdlog::set_default_logger(std::make_shared<spdlog::logger>("hook", hook));
  fails_ = true;
  OpenCore();
  WaitFor([&] { return is_deleted.load(); });
  auto error_of = [&](int device) {
    auto row = core_->record().FindDevice(Handle(device));
    return row ? row->last_error.code : absl::StatusCode::kNotFound;
  };
  WaitFor([&] { return error_of(2) == absl::StatusCode::kResourceExhausted; });
  EXPECT_FALSE(core_->record().FindDevice(Handle(1)));
  fails_ = false;
  WaitFor([&] { return error_of(2) == absl::StatusCode::kOk; });
  EXPECT_TRUE(Subsystem(1).is_null());
}

}  // namespace
}  // namespace sma::core
