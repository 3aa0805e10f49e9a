// SPDX-License-Identifier: Apache-2.0

// Tests devices that their type knows and the agent does not: they are in the record only as long
// as they have volumes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "agent/core/testing/agent_fixture.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// A type that names its devices itself and attaches volumes as the test says.
class NamedType : public DeviceManager {
 public:
  using Attach = std::function<absl::Status(const base::Context&, const DeviceVolume&)>;
  explicit NamedType(const Attach& attach) : attach_(attach) {}

  std::string_view name() const override { return "named"; }
  std::string_view protocol() const override { return "nvme"; }
  DeviceType type() const override { return DEVICE_TYPE_NVME; }
  DeviceTraits traits() const override { return {.names_devices = true}; }
  absl::StatusOr<DeviceSpec> Describe(const CreateDeviceRequest& request) const override {
    return DeviceSpec{.handle = "named:1", .params = request};
  }
  bool OwnsHandle(std::string_view handle) const override { return handle.starts_with("named:"); }
  absl::Status Prepare(const base::Context& /*context*/) override { return absl::OkStatus(); }
  absl::StatusOr<std::optional<ExistingDevice>> FindExisting(
      const base::Context& /*context*/, const DeviceSpec& /*device*/) override {
    return std::nullopt;
  }
  OutcomeOr<CreatedDevice> CreateDevice(const base::Context& /*context*/, const DeviceSpec& device,
                                        const DeviceVolume* /*volume*/) override {
    return CreatedDevice{.handle = device.handle, .attachment = ""};
  }
  Outcome UndoCreate(const base::Context& /*context*/, const DeviceSpec& /*device*/,
                     const DeviceVolume* /*volume*/) override {
    return {};
  }
  Outcome DeleteDevice(const base::Context& /*context*/, const DeviceSpec& /*device*/,
                       std::span<const DeviceVolume> /*volumes*/) override {
    return {};
  }
  OutcomeOr<std::string> AttachVolume(const base::Context& context, const DeviceSpec& /*device*/,
                                      const DeviceVolume& volume) override {
    absl::Status status = attach_(context, volume);
    if (!status.ok()) return status;
    return std::string("attached");
  }
  Outcome DetachVolume(const base::Context& /*context*/, const DeviceSpec& /*device*/,
                       const DeviceVolume& /*volume*/) override {
    return {};
  }
  absl::StatusOr<std::unique_ptr<DeviceListing>> List(const base::Context& /*context*/) override {
    return std::make_unique<DeviceListing>();
  }
  RestoreResult Restore(const base::Context& /*context*/, const RestoreRequest& request) override {
    RestoreResult result;
    for (const DeviceVolume& volume : request.volumes) {
      result.volumes.push_back({.attachment = volume.attachment});
    }
    return result;
  }

 private:
  const Attach& attach_;
};

class NamedDevicesTest : public AgentFixture {
 protected:
  void SetUp() override {
    AgentFixture::SetUp();
    AddBdevs();
  }
  std::vector<std::unique_ptr<DeviceManager>> MakeManagers() override {
    std::vector<std::unique_ptr<DeviceManager>> managers;
    managers.push_back(std::make_unique<NamedType>(attach_));
    return managers;
  }

  static constexpr char kHandle[] = "named:7";
  NamedType::Attach attach_ = [](const base::Context& /*context*/, const DeviceVolume& /*volume*/) {
    return absl::NotFoundError("there is no such device");
  };
};

TEST_F(NamedDevicesTest, AFailedAttachLeavesNoDevice) {
  EXPECT_EQ(Attach(kHandle, 1).code(), StatusCode::kNotFound);
  EXPECT_EQ(core_->record().device_count(), 0u);
}

TEST_F(NamedDevicesTest, TwoFailedAttachesAtOnceLeaveNoDevice) {
  std::atomic<bool> second_runs = false, first_ended = false;
  attach_ = [&](const base::Context& /*context*/, const DeviceVolume& volume) {
    if (volume.id == *base::Uuid::Parse(VolumeUuid(2))) {
      second_runs = true;
      while (!first_ended) std::this_thread::yield();
    } else {
      while (!second_runs) std::this_thread::yield();
    }
    return absl::NotFoundError("there is no such device");
  };
  std::thread second([&] { EXPECT_EQ(Attach(kHandle, 2).code(), StatusCode::kNotFound); });
  EXPECT_EQ(Attach(kHandle, 1).code(), StatusCode::kNotFound);
  first_ended = true;
  second.join();
  WaitFor([&] { return core_->record().device_count() == 0; });
}

// The type may still be working on the call: its volume is released first.
TEST_F(NamedDevicesTest, AnAttachThatEndedAtItsDeadlineLeavesNoDevice) {
  attach_ = [](const base::Context& context, const DeviceVolume& /*volume*/) {
    return context.SleepUntil(base::TimePoint::max());
  };
  context_ = base::Context::WithTimeout(milliseconds(50));
  EXPECT_EQ(Attach(kHandle, 1).code(), StatusCode::kDeadlineExceeded);
  WaitFor([&] { return core_->record().device_count() == 0; });
  EXPECT_EQ(core_->record().volume_count(), 0u);
}

TEST_F(NamedDevicesTest, AnAttachThatTheAgentsEndInterruptedLeavesNoDevice) {
  Crash();
  record::Device device;
  device.handle = kHandle;
  device.manager = "named";
  device.state = record::DeviceState::kReady;
  disk_->devices[kHandle] = device;
  record::Volume volume;
  volume.id = *base::Uuid::Parse(VolumeUuid(1));
  volume.device_handle = kHandle;
  volume.params.set_volume_id(Id(1));
  volume.bdev_name = VolumeUuid(1);
  volume.state = record::VolumeState::kAttaching;
  disk_->volumes[volume.id] = volume;
  Open();
  WaitFor([&] { return core_->record().device_count() == 0; });
  EXPECT_EQ(core_->record().volume_count(), 0u);
}

TEST_F(NamedDevicesTest, ADeviceWithVolumesStaysInTheRecord) {
  attach_ = [](const base::Context& /*context*/, const DeviceVolume& /*volume*/) {
    return absl::OkStatus();
  };
  ASSERT_TRUE(Attach(kHandle, 1).ok());
  attach_ = [](const base::Context& /*context*/, const DeviceVolume& /*volume*/) {
    return absl::NotFoundError("there is no such volume");
  };
  EXPECT_EQ(Attach(kHandle, 2).code(), StatusCode::kNotFound);
  Crash();
  Open();
  EXPECT_EQ(core_->record().device_count(), 1u);
  EXPECT_EQ(core_->record().volume_count(), 1u);
}

// A device that CreateDevice made exists without volumes.
TEST_F(NamedDevicesTest, ACreatedDeviceStaysInTheRecord) {
  CreateDeviceRequest request;
  request.mutable_nvme()->set_physical_id(1);
  ASSERT_TRUE(core_->agent().CreateDevice(context_, request).ok());
  EXPECT_EQ(Attach("named:1", 1).code(), StatusCode::kNotFound);
  Crash();
  Open();
  EXPECT_EQ(core_->record().device_count(), 1u);
}

}  // namespace
}  // namespace sma::core
