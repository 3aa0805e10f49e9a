// SPDX-License-Identifier: Apache-2.0

// Tests that failure domains that hang or fail do not affect other devices.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "agent/core/testing/agent_fixture.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using jsonrpc::Request;
using spdk::Fault;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

/// An additional device type, whose Prepare fails or hangs.
class BadType : public nvmf_tcp::NvmfTcpManager {
 public:
  BadType(jsonrpc::Caller& target, std::atomic<bool>& refuses, std::atomic<bool>& hangs)
      : NvmfTcpManager(target), refuses_(refuses), hangs_(hangs) {}

  std::string_view name() const override { return "bad"; }
  std::string_view protocol() const override { return "nvme"; }
  DeviceType type() const override { return DEVICE_TYPE_NVME; }
  bool OwnsHandle(std::string_view handle) const override { return handle.starts_with("bad:"); }
  absl::StatusOr<DeviceSpec> Describe(const CreateDeviceRequest& request) const override {
    DeviceSpec device;
    device.handle = "bad:" + std::to_string(request.nvme().physical_id());
    device.params = request;
    return device;
  }
  absl::Status Prepare(const base::Context& context) override {
    if (hangs_) return context.SleepUntil(base::TimePoint::max());
    return refuses_ ? absl::UnimplementedError("no such transport") : absl::OkStatus();
  }

 private:
  std::atomic<bool>& refuses_;
  std::atomic<bool>& hangs_;
};

class FailureDomainsTest : public AgentFixture {
 protected:
  void SetUp() override {
    AgentFixture::SetUp();
    AddBdevs();
  }
  std::vector<std::unique_ptr<DeviceManager>> MakeManagers() override {
    std::vector<std::unique_ptr<DeviceManager>> managers;
    managers.push_back(std::make_unique<BadType>(target_, refuses_, hangs_));
    managers.push_back(std::make_unique<nvmf_tcp::NvmfTcpManager>(target_));
    return managers;
  }
  admin::v1::Status Status() { return *core_->admin().GetStatus(context_, {}); }

  std::atomic<bool> refuses_{false};
  std::atomic<bool> hangs_{false};
};

TEST_F(FailureDomainsTest, Defect48_ATypeWhosePrepareFailsDoesNotAffectOthers) {
  ASSERT_TRUE(Create(1, 1).ok());
  Crash();
  refuses_ = true;
  target_.Restart();
  AddBdevs();
  Open();
  WaitFor([this] { return Namespaces(1).size() == 1; });
  EXPECT_TRUE(Create(2, 2).ok());
  const admin::v1::Status status = Status();
  EXPECT_TRUE(status.serving());
  ASSERT_EQ(status.failed_device_types_size(), 1);
  EXPECT_EQ(status.failed_device_types(0).name(), "bad");
  EXPECT_THAT(status.failed_device_types(0).reason(), HasSubstr("no such transport"));
  // Prepare is called again, and succeeds.
  refuses_ = false;
  WaitFor([this] { return Status().failed_device_types_size() == 0; });
}

TEST_F(FailureDomainsTest, Defect47_ATypeThatHangsDoesNotAffectOthers) {
  ASSERT_TRUE(Create(1, 1).ok());
  Crash();
  hangs_ = true;
  target_.Restart();
  AddBdevs();
  options_.max_start_wait = milliseconds(100);
  const auto begin = steady_clock::now();
  Open();
  WaitFor([this] { return Namespaces(1).size() == 1; });
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_TRUE(Create(2, 2).ok());
  hangs_ = false;
}

TEST_F(FailureDomainsTest, Defect50_ATargetThatHangsIsNotServing) {
  ASSERT_TRUE(Create(1, 1).ok());
  Crash();
  options_.health_period = milliseconds(10);
  options_.max_silence = milliseconds(100);
  Open();
  target_.SetFaultPlan([](uint64_t, const Request&) { return Fault::kHang; });
  WaitFor([this] { return !serving_; });
  EXPECT_THAT(Status().not_serving_reason(), HasSubstr("has not answered since 20"));
  // No caller waits for the hung target.
  const auto begin = steady_clock::now();
  EXPECT_EQ(Create(2).code(), StatusCode::kUnavailable);
  EXPECT_EQ(Detach(Handle(1), 1).code(), StatusCode::kUnavailable);
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(2));
  target_.SetFaultPlan(nullptr);
  WaitFor([this] { return serving_.load(); });
  EXPECT_EQ(Status().not_serving_reason(), "");
  // A requested removal then completes without another call.
  WaitFor([this] { return Namespaces(1).empty(); });
}

TEST_F(FailureDomainsTest, Defect51_ReportedDriftIsNotRepairedWhileSomethingIsMissing) {
  ASSERT_TRUE(Create(1, 1).ok());
  ASSERT_TRUE(Create(2, 2).ok());
  Crash();
  options_.repair_drift = false;
  target_.Restart();
  target_.AddBdev(VolumeUuid(1));  // the volume of device 2 stays missing
  Open();
  WaitFor([this] { return Namespaces(1).size() == 1; });
  Operator("nvmf_subsystem_remove_ns", {{"nqn", Nqn(1)}, {"nsid", 1}});
  for (int look = 0; look < 3; ++look) {
    core_->OnConnect(target_.generation());
    WaitFor([this] { return Status().degraded_count() >= 2; });
  }
  EXPECT_TRUE(Namespaces(1).empty());
  // The objects that the restart removed are restored nevertheless.
  target_.AddBdev(VolumeUuid(2));
  WaitFor([this] { return Namespaces(2).size() == 1; });
  EXPECT_TRUE(Namespaces(1).empty());
}

TEST_F(FailureDomainsTest, Defect52_ACallWithoutAnAnswerBlocksOnlyItsOwnObjects) {
  ASSERT_TRUE(Create(1).ok());
  ASSERT_TRUE(Create(2).ok());
  target_.SetImpatient(true);
  target_.SetFaultPlan([](uint64_t, const Request& request) {
    const bool hit = request.method == "nvmf_subsystem_add_ns" && request.params["nqn"] == Nqn(1);
    return hit ? Fault::kLate : Fault::kNone;
  });
  EXPECT_FALSE(Attach(Handle(1), 1).ok());
  target_.SetFaultPlan(nullptr);
  // Other calls fail, and succeed when they are repeated.
  target_.SetFaultPlan([](uint64_t, const Request& request) {
    return request.method == "nvmf_subsystem_add_ns" ? Fault::kRefuse : Fault::kNone;
  });
  EXPECT_FALSE(Attach(Handle(2), 2).ok());
  target_.SetFaultPlan(nullptr);
  const auto begin = steady_clock::now();
  EXPECT_TRUE(Attach(Handle(2), 2).ok());
  EXPECT_TRUE(Create(3, 3).ok());
  EXPECT_TRUE(Delete(Handle(3)).ok());
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(15));
  target_.DoLate();
  WaitFor([this] { return Namespaces(1).empty(); });
}

TEST_F(FailureDomainsTest, Defect55_AVolumeThatCannotBeRestoredDoesNotAffectOthers) {
  ASSERT_TRUE(Create(1, 1).ok());
  ASSERT_TRUE(Attach(Handle(1), 2).ok());
  Crash();
  options_.incomplete_hold = Options().incomplete_hold;
  target_.Restart();
  target_.AddBdev(VolumeUuid(2));
  const auto begin = steady_clock::now();
  Open();
  WaitFor([this] {
    const jsonrpc::Json subsystem = Subsystem(1);
    return !subsystem.is_null() && !subsystem["listen_addresses"].empty();
  });
  EXPECT_LT(steady_clock::now() - begin, milliseconds(1500));
}

TEST_F(FailureDomainsTest, AMissingVolumeCausesNoComparisonOfOthers) {
  ASSERT_TRUE(Create(1, 1).ok());
  ASSERT_TRUE(Create(2, 2).ok());
  Crash();
  target_.Restart();
  target_.AddBdev(VolumeUuid(1));
  Open();
  WaitFor([this] { return Status().degraded_count() == 2 && !Status().restore().active(); });
  target_.ResetCounts();
  WaitFor([this] { return target_.calls() > 20; });
  for (const std::string& method : target_.methods()) {
    EXPECT_NE(method, "vhost_get_controllers");
    EXPECT_NE(method, "bdev_nvme_get_controllers");
  }
  EXPECT_EQ(Status().restore().total(), 2u) << "not compared again";
}

// Every call returns the same code, which is not one that makes clients retry for ever.
TEST_F(FailureDomainsTest, Defect59_EveryCallForATypeThatIsNotEnabledReturnsFailedPrecondition) {
  ASSERT_TRUE(Create(1, 1).ok());
  Crash();
  disk_->devices.at(Handle(1)).manager = "not_enabled";
  Open();
  EXPECT_EQ(Attach(Handle(1), 2).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(Detach(Handle(1), 1).code(), StatusCode::kFailedPrecondition);
  EXPECT_EQ(Delete(Handle(1)).code(), StatusCode::kFailedPrecondition);
  SetQosRequest request;
  request.set_device_handle(Handle(1));
  request.set_volume_id(Id(1));
  request.mutable_maximum()->set_rw_iops(1);
  EXPECT_EQ(core_->agent().SetQos(context_, request).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Delete(Handle(1)).message()), HasSubstr("is not enabled"));
}

TEST_F(FailureDomainsTest, Defect60_ACallReturnsDeadlineExceededAfterItsDeadline) {
  ASSERT_TRUE(Create(1).ok());
  options_.volumes.local_wait = std::chrono::seconds(60);
  Crash();
  Open();
  context_ = base::Context::WithTimeout(milliseconds(50));
  EXPECT_EQ(Attach(Handle(1), 77).code(), StatusCode::kDeadlineExceeded);
}

TEST_F(FailureDomainsTest, Defect62_ADeleteAfterALostConnectionIsDurableBeforeItIsAnswered) {
  ASSERT_TRUE(Create(1, 1).ok());
  target_.SetImpatient(true);
  target_.SetFaultPlan([](uint64_t, const Request& request) {
    return request.method == "nvmf_subsystem_add_ns" ? Fault::kLate : Fault::kNone;
  });
  EXPECT_FALSE(Attach(Handle(1), 2).ok());
  target_.SetFaultPlan(nullptr);
  bool is_durable = false;
  disk_->fault = [&](record::Durability durability) {
    is_durable |= durability == record::Durability::kHost;
    return absl::OkStatus();
  };
  // Since the target may still act on a call, the device is only marked as being deleted.
  EXPECT_TRUE(Delete(Handle(1)).ok());
  EXPECT_TRUE(is_durable);
  disk_->fault = nullptr;
  target_.DoLate();
  WaitFor([this] { return core_->record().device_count() == 0; });
  EXPECT_TRUE(Subsystem(1).is_null());
}

/// Each device has its own neighbour; the neighbour of device 1 may hang.
class NeighboursTest : public AgentFixture {
 protected:
  class Manager : public nvmf_tcp::NvmfTcpManager {
   public:
    Manager(jsonrpc::Caller& target, std::atomic<bool>& hangs, std::atomic<int>& waiting)
        : NvmfTcpManager(target), hangs_(hangs), waiting_(waiting) {}
    std::string NeighbourOf(const DeviceSpec& device) const override {
      return "machine of " + device.handle;
    }
    RestoreResult Restore(const base::Context& context, const RestoreRequest& request) override {
      if (request.device.handle == Handle(1) && hangs_) {
        ++waiting_;
        while (hangs_ && context.SleepUntil(steady_clock::now() + milliseconds(1)).ok()) {
        }
      }
      return NvmfTcpManager::Restore(context, request);
    }

   private:
    std::atomic<bool>& hangs_;
    std::atomic<int>& waiting_;
  };
  std::vector<std::unique_ptr<DeviceManager>> MakeManagers() override {
    std::vector<std::unique_ptr<DeviceManager>> managers;
    managers.push_back(std::make_unique<Manager>(target_, hangs_, waiting_));
    return managers;
  }
  void TearDown() override {
    hangs_ = false;
    AgentFixture::TearDown();
  }
  // A volume that disappears and reappears is attached to its device again while the neighbour
  // hangs.
  void ExpectServed(int number) {
    Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(number)}});
    WaitFor([&] { return Namespaces(number).empty(); });
    WaitFor([&] {
      auto row = core_->record().FindVolume(*base::Uuid::Parse(VolumeUuid(number)));
      return row && row->last_error.code != StatusCode::kOk;
    });
    target_.AddBdev(VolumeUuid(number));
    WaitFor([&] { return Namespaces(number).size() == 1; });
    EXPECT_TRUE(hangs_);
  }

  std::atomic<bool> hangs_{false};
  std::atomic<int> waiting_{0};
};

TEST_F(NeighboursTest, ANeighbourThatHangsDoesNotDelayDevicesOfOthers) {
  options_.watch_period = milliseconds(5);
  options_.max_start_wait = milliseconds(100);
  Crash();
  Open();
  for (int number = 1; number <= 2; ++number) {
    target_.AddBdev(VolumeUuid(number));
    ASSERT_TRUE(Create(number, number).ok());
  }
  const auto start = steady_clock::now();
  hangs_ = true;
  Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(1)}});
  WaitFor([this] { return waiting_ == 1; });
  ExpectServed(2);
  // The comparison of all devices waits for the neighbour as well.
  hangs_ = false;
  target_.AddBdev(VolumeUuid(1));
  WaitFor([this] { return Namespaces(1).size() == 1; });
  Crash();
  hangs_ = true;
  waiting_ = 0;
  Open();
  WaitFor([this] { return waiting_ >= 1; });
  ExpectServed(2);
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(14)) << "given up, not passed by";
}

}  // namespace
}  // namespace sma::core
