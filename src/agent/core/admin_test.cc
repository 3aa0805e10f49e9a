// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "agent/core/testing/agent_fixture.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using admin::v1::WatchResponse;
using testing::SizeIs;

class AdminTest : public AgentFixture {
 protected:
  void SetUp() override {
    AgentFixture::SetUp();
    for (int volume = 1; volume <= 4; ++volume) target_.AddBdev(VolumeUuid(volume));
  }
  api::Admin& Admin() { return core_->admin(); }
};

// A record that cannot be written is reported, and used again as soon as it can be written, without
// a call.
TEST_F(AdminTest, ARecordThatCannotBeWrittenIsReported) {
  std::atomic<bool> is_full = false;
  disk_->fault = [&](record::Durability) {
    return is_full ? absl::ResourceExhaustedError("no space left: No space left on device")
                   : absl::OkStatus();
  };
  options_.health_period = std::chrono::milliseconds(10);
  Crash();
  Open();
  ASSERT_TRUE(Create(1, 1).ok());
  admin::v1::Status status = *Admin().GetStatus(context_, {});
  EXPECT_TRUE(status.serving());
  EXPECT_TRUE(status.record().writable());
  is_full = true;
  EXPECT_EQ(Create(2).code(), StatusCode::kResourceExhausted);
  WaitFor([this] { return !serving_; });
  status = *Admin().GetStatus(context_, {});
  EXPECT_FALSE(status.serving());
  EXPECT_EQ(status.not_serving_reason(), "no space left: No space left on device");
  EXPECT_FALSE(status.record().writable());
  EXPECT_EQ(status.record().error().message(), status.not_serving_reason());
  EXPECT_TRUE(status.target().connected());
  is_full = false;
  WaitFor([this] { return serving_.load(); });
  EXPECT_TRUE(Admin().GetStatus(context_, {})->record().writable());
  EXPECT_TRUE(Create(2).ok());
  EXPECT_EQ(disk_->limits.size(), 0u) << "the checks leave nothing behind";
  Crash();
}

TEST_F(AdminTest, DevicesAreListedInPages) {
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Create(i, i < 4 ? i + 1 : 0).ok());
  admin::v1::ListDevicesRequest request;
  request.set_page_size(2);
  std::vector<std::string> handles;
  do {
    auto page = Admin().ListDevices(context_, request);
    ASSERT_TRUE(page.ok());
    for (const auto& device : page->devices()) handles.push_back(device.handle());
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  EXPECT_THAT(handles, testing::ElementsAre(Handle(0), Handle(1), Handle(2), Handle(3), Handle(4)));
  request.Clear();
  request.set_type(DEVICE_TYPE_NVME);
  EXPECT_THAT(Admin().ListDevices(context_, request)->devices(), SizeIs(0));
}

TEST_F(AdminTest, VolumesAreListedInPagesAndByDevice) {
  ASSERT_TRUE(Create(0, 1).ok());
  ASSERT_TRUE(Attach(Handle(0), 2).ok());
  ASSERT_TRUE(Create(1, 3).ok());
  admin::v1::ListVolumesRequest request;
  request.set_page_size(2);
  auto first = Admin().ListVolumes(context_, request);
  EXPECT_THAT(first->volumes(), SizeIs(2));
  request.set_page_token(first->next_page_token());
  auto second = Admin().ListVolumes(context_, request);
  ASSERT_THAT(second->volumes(), SizeIs(1));
  EXPECT_EQ(second->volumes(0).volume_id(), Id(3));
  EXPECT_EQ(second->next_page_token(), "");
  request.Clear();
  request.set_device_handle(Handle(0));
  EXPECT_THAT(Admin().ListVolumes(context_, request)->volumes(), SizeIs(2));
  request.set_page_token("bad");
  EXPECT_EQ(Admin().ListVolumes(context_, request).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(AdminTest, OneDeviceAndOneVolume) {
  ASSERT_TRUE(Create(0, 1).ok());
  admin::v1::GetDeviceRequest device_request;
  device_request.set_handle(Handle(0));
  auto device = Admin().GetDevice(context_, device_request);
  ASSERT_TRUE(device.ok());
  EXPECT_EQ(device->manager(), "nvmf_tcp");
  EXPECT_EQ(device->type(), DEVICE_TYPE_NVMF_TCP);
  EXPECT_EQ(device->state(), admin::v1::STATE_READY);
  EXPECT_EQ(device->nvmf_tcp().subnqn(), Nqn(0));
  ASSERT_THAT(device->volume_ids(), SizeIs(1));
  admin::v1::GetVolumeRequest volume_request;
  volume_request.set_volume_id(device->volume_ids(0));
  auto volume = Admin().GetVolume(context_, volume_request);
  ASSERT_TRUE(volume.ok());
  EXPECT_EQ(volume->device_handle(), Handle(0));
  EXPECT_EQ(volume->bdev(), VolumeUuid(1));
  device_request.set_handle(Handle(1));
  EXPECT_EQ(Admin().GetDevice(context_, device_request).status().code(), StatusCode::kNotFound);
  volume_request.set_volume_id(Id(2));
  EXPECT_EQ(Admin().GetVolume(context_, volume_request).status().code(), StatusCode::kNotFound);
}

TEST_F(AdminTest, WatchSendsTheInitialStateAndTheChanges) {
  ASSERT_TRUE(Create(0, 1).ok());
  std::vector<std::shared_ptr<const WatchResponse>> seen;
  admin::v1::WatchRequest request;
  request.set_initial_state(true);
  auto watch = Admin().Watch(request, [&](auto response) { seen.push_back(response); });
  ASSERT_TRUE(watch.ok());
  while (auto response = (*watch)->NextInitial()) seen.push_back(response);
  ASSERT_THAT(seen, SizeIs(4));
  EXPECT_EQ(seen[0]->device().handle(), Handle(0));
  EXPECT_EQ(seen[1]->volume().volume_id(), Id(1));
  EXPECT_TRUE(seen[2]->has_status());
  EXPECT_TRUE(seen[3]->has_synced());
  ASSERT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_EQ(seen.back()->volume_removed(), Id(1));
  ASSERT_TRUE(Delete(Handle(0)).ok());
  EXPECT_EQ(seen.back()->device_removed(), Handle(0));
  size_t count = seen.size();
  watch->reset();
  ASSERT_TRUE(Create(1).ok());
  EXPECT_THAT(seen, SizeIs(count));
}

// The initial state is read from the record only as fast as the watcher reads it, so that no memory
// is used for a watcher that does not read.
TEST_F(AdminTest, Defect57_TheInitialStateOfALargeRecordIsSentInParts) {
  constexpr int kDevices = 5000;
  Crash();
  for (int i = 0; i < kDevices; ++i) {
    record::Device row;
    row.handle = Handle(i);
    row.manager = "nvmf_tcp";
    row.state = record::DeviceState::kReady;
    disk_->devices.emplace(row.handle, row);
  }
  options_.repair_drift = false;
  target_.SetDown(true);
  OpenCore();
  std::vector<std::shared_ptr<const WatchResponse>> pushed;
  admin::v1::WatchRequest request;
  request.set_initial_state(true);
  auto watch = Admin().Watch(request, [&](auto response) { pushed.push_back(response); });
  ASSERT_TRUE(watch.ok());
  EXPECT_TRUE(pushed.empty());
  int devices = 0;
  bool is_synced = false;
  while (auto response = (*watch)->NextInitial()) {
    devices += response->has_device() ? 1 : 0;
    is_synced = response->has_synced();
  }
  EXPECT_EQ(devices, kDevices);
  EXPECT_TRUE(is_synced) << "it is the last";
  watch->reset();
}

TEST_F(AdminTest, WatchOfOneDevice) {
  ASSERT_TRUE(Create(0).ok());
  std::vector<std::shared_ptr<const WatchResponse>> seen;
  admin::v1::WatchRequest request;
  request.set_device_handle(Handle(0));
  auto watch = Admin().Watch(request, [&](auto response) { seen.push_back(response); });
  ASSERT_TRUE(Create(1).ok());
  EXPECT_THAT(seen, SizeIs(0));
  ASSERT_TRUE(Attach(Handle(0), 1).ok());
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back()->volume().state(), admin::v1::STATE_READY);
}

TEST_F(AdminTest, DevicesOfAnotherAgentAreAdoptedWhenConfirmed) {
  ASSERT_TRUE(Create(0, 1).ok());
  const std::string before = target_.Dump();
  Crash();
  *disk_ = record::MemoryDisk();
  Open();
  auto candidates = Admin().ListAdoptionCandidates(context_, {});
  ASSERT_TRUE(candidates.ok());
  ASSERT_THAT(candidates->candidates(), SizeIs(1));
  EXPECT_EQ(candidates->candidates(0).handle(), Handle(0));
  EXPECT_EQ(candidates->candidates(0).volumes(0).volume_id(), Id(1));
  admin::v1::AdoptDeviceRequest request;
  request.set_handle(Handle(0));
  EXPECT_EQ(Admin().AdoptDevice(context_, request).status().code(),
            StatusCode::kFailedPrecondition);
  request.add_volume_ids(Id(1));
  EXPECT_TRUE(Admin().AdoptDevice(context_, request).ok());
  EXPECT_TRUE(Admin().AdoptDevice(context_, request).ok());
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_THAT(Admin().ListAdoptionCandidates(context_, {})->candidates(), SizeIs(0));
  request.set_handle(Handle(5));
  EXPECT_EQ(Admin().AdoptDevice(context_, request).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(Detach(Handle(0), 1).ok());
  EXPECT_TRUE(Delete(Handle(0)).ok());
}

TEST_F(AdminTest, StatusAndPlugins) {
  ASSERT_TRUE(Create(0, 1).ok());
  auto status = Admin().GetStatus(context_, {});
  EXPECT_EQ(status->device_count(), 1u);
  EXPECT_EQ(status->volume_count(), 1u);
  EXPECT_EQ(status->degraded_count(), 0u);
  EXPECT_TRUE(status->serving());
  EXPECT_THAT(Admin().ListPlugins(context_, {})->plugins(), SizeIs(0));
  Crash();
  options_.plugins.emplace_back().set_name("nvmf_tcp");
  Open();
  auto plugins = Admin().ListPlugins(context_, {});
  ASSERT_THAT(plugins->plugins(), SizeIs(1));
  EXPECT_EQ(plugins->plugins(0).name(), "nvmf_tcp");
}

}  // namespace
}  // namespace sma::core
