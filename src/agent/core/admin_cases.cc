// SPDX-License-Identifier: Apache-2.0

#include "agent/core/admin_cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "agent/core/admin_messages.h"
#include "agent/core/adoption.h"

namespace sma::core {

namespace {

constexpr size_t kDefaultPageSize = 100;
constexpr size_t kMaxPageSize = 1000;

size_t PageSize(uint32_t asked) {
  return asked == 0 ? kDefaultPageSize : std::min<size_t>(asked, kMaxPageSize);
}

std::shared_ptr<admin::v1::WatchResponse> NewResponse() {
  auto response = std::make_shared<admin::v1::WatchResponse>();
  SetTime(std::chrono::system_clock::now(), *response->mutable_time());
  return response;
}

}  // namespace

AdminCases::AdminCases(Core& core, Reconciler& reconciler)
    : core_(core), messages_(core, reconciler) {
  core_.record->SetObserver([this](const record::Change& change) {
    for (const base::Uuid& id : change.remove_volumes) {
      core_.unset_limits.Remove(id);
      core_.gone_volumes->Forget(id);
      core_.paths->Forget(id);
    }
    for (const base::Uuid& id : change.remove_limits) core_.unset_limits.Remove(id);
    if (watchers_->any()) Publish(change);
  });
}

absl::StatusOr<admin::v1::ListDevicesResponse> AdminCases::ListDevices(
    const base::Context& /*context*/, const admin::v1::ListDevicesRequest& request) {
  size_t page_size = PageSize(request.page_size());
  admin::v1::ListDevicesResponse response;
  std::string after = request.page_token();
  while (true) {
    const std::vector<record::Device> rows = core_.record->Devices(after, page_size);
    for (const record::Device& row : rows) {
      after = row.handle;
      admin::v1::Device device = messages_.Of(row);
      if (request.type() != DEVICE_TYPE_INVALID && request.type() != device.type()) continue;
      *response.add_devices() = std::move(device);
      if (static_cast<size_t>(response.devices_size()) == page_size) {
        if (!core_.record->Devices(after, 1).empty()) response.set_next_page_token(after);
        return response;
      }
    }
    if (rows.size() < page_size) return response;
  }
}

absl::StatusOr<admin::v1::Device> AdminCases::GetDevice(
    const base::Context& /*context*/, const admin::v1::GetDeviceRequest& request) {
  std::optional<record::Device> row = core_.record->FindDevice(request.handle());
  if (row) return messages_.Of(*row);
  return absl::NotFoundError(fmt::format("handle: there is no device {}", request.handle()));
}

absl::StatusOr<admin::v1::ListVolumesResponse> AdminCases::ListVolumes(
    const base::Context& /*context*/, const admin::v1::ListVolumesRequest& request) {
  std::optional<base::Uuid> after;
  if (!request.page_token().empty()) {
    after = base::Uuid::Parse(request.page_token());
    if (!after) return absl::InvalidArgumentError("page_token: invalid");
  }
  size_t page_size = PageSize(request.page_size());
  std::vector<record::Volume> rows;
  if (request.device_handle().empty()) {
    rows = core_.record->Volumes(after, page_size + 1);
  } else {
    rows = core_.record->VolumesOf(request.device_handle());
    std::erase_if(rows, [&](const record::Volume& row) { return after && row.id <= *after; });
  }
  admin::v1::ListVolumesResponse response;
  for (const record::Volume& row : rows) {
    if (static_cast<size_t>(response.volumes_size()) == page_size) {
      response.set_next_page_token(after->ToString());
      break;
    }
    *response.add_volumes() = messages_.Of(row);
    after = row.id;
  }
  return response;
}

absl::StatusOr<admin::v1::Volume> AdminCases::GetVolume(
    const base::Context& /*context*/, const admin::v1::GetVolumeRequest& request) {
  absl::StatusOr<base::Uuid> id = CheckVolumeId(request.volume_id());
  if (!id.ok()) return id.status();
  if (std::optional<record::Volume> row = core_.record->FindVolume(*id)) return messages_.Of(*row);
  return absl::NotFoundError(fmt::format("volume_id: there is no volume {}", id->ToString()));
}

absl::StatusOr<admin::v1::Status> AdminCases::GetStatus(
    const base::Context& /*context*/, const admin::v1::GetStatusRequest& /*request*/) {
  return messages_.OfAgent();
}

absl::StatusOr<admin::v1::ListPluginsResponse> AdminCases::ListPlugins(
    const base::Context& /*context*/, const admin::v1::ListPluginsRequest& /*request*/) {
  admin::v1::ListPluginsResponse response;
  for (const admin::v1::Plugin& plugin : core_.options.plugins) *response.add_plugins() = plugin;
  return response;
}

absl::StatusOr<admin::v1::ListAdoptionCandidatesResponse> AdminCases::ListAdoptionCandidates(
    const base::Context& context, const admin::v1::ListAdoptionCandidatesRequest& /*request*/) {
  admin::v1::ListAdoptionCandidatesResponse response;
  for (const auto& manager : core_.registry.managers()) {
    auto candidates = FindCandidates(core_, context, *manager);
    if (!candidates.ok()) return candidates.status();
    for (const AdoptionCandidate& candidate : *candidates) {
      *response.add_candidates() = CandidateMessage(candidate, manager->type());
    }
  }
  return response;
}

absl::StatusOr<admin::v1::Device> AdminCases::AdoptDevice(
    const base::Context& context, const admin::v1::AdoptDeviceRequest& request) {
  DeviceManager* manager = core_.registry.ForHandle(request.handle());
  if (manager == nullptr) {
    return absl::NotFoundError(
        fmt::format("handle: no device type uses handles such as {}", request.handle()));
  }
  std::set<base::Uuid> confirmed;
  std::vector<LockTable::Key> volume_keys;
  for (const std::string& bytes : request.volume_ids()) {
    absl::StatusOr<base::Uuid> id = CheckVolumeId(bytes);
    if (!id.ok()) return id.status();
    if (confirmed.insert(*id).second) volume_keys.push_back(LockTable::Volume(*id));
  }
  auto device_lock = core_.locks.Acquire(context, {LockTable::Device(request.handle())});
  if (!device_lock.ok()) return device_lock.status();
  auto volume_locks = core_.locks.Acquire(context, std::move(volume_keys));
  if (!volume_locks.ok()) return volume_locks.status();
  if (std::optional<record::Device> row = core_.record->FindDevice(request.handle())) {
    return messages_.Of(*row);
  }
  absl::Status status = Adopt(core_, context, *manager, request.handle(), confirmed);
  if (!status.ok()) return status;
  return messages_.Of(*core_.record->FindDevice(request.handle()));
}

// Each call reads one row of the record, and only when the watcher can receive it, so that no
// memory is used for a watcher that does not read.
Watchers::Initial AdminCases::InitialState(const std::string& handle) {
  enum class Phase { kDevices, kVolumes, kStatus, kSynced, kDone };
  auto next_volume = [this, handle](const std::optional<base::Uuid>& after) {
    if (handle.empty()) return core_.record->Volumes(after, 1);
    std::vector<record::Volume> rows = core_.record->VolumesOf(handle);
    std::erase_if(rows, [&](const record::Volume& row) { return after && row.id <= *after; });
    return rows;
  };
  return [this, handle, next_volume, phase = Phase::kDevices, after_device = std::string(),
          after_volume = std::optional<base::Uuid>()]() mutable
         -> std::shared_ptr<const admin::v1::WatchResponse> {
    auto response = NewResponse();
    if (phase == Phase::kDevices) {
      const std::vector<record::Device> rows = core_.record->Devices(after_device, 1);
      std::optional<record::Device> row;
      if (handle.empty() && !rows.empty()) row = rows.front();
      if (!handle.empty() && after_device.empty()) row = core_.record->FindDevice(handle);
      if (row) {
        after_device = row->handle;
        *response->mutable_device() = messages_.Of(*row);
        return response;
      }
      phase = Phase::kVolumes;
    }
    if (phase == Phase::kVolumes) {
      const std::vector<record::Volume> rows = next_volume(after_volume);
      if (!rows.empty()) {
        after_volume = rows.front().id;
        *response->mutable_volume() = messages_.Of(rows.front());
        return response;
      }
      phase = handle.empty() ? Phase::kStatus : Phase::kSynced;
    }
    if (phase == Phase::kDone) return nullptr;
    if (phase == Phase::kStatus) {
      *response->mutable_status() = messages_.OfAgent();
    } else {
      response->mutable_synced();
    }
    phase = phase == Phase::kStatus ? Phase::kSynced : Phase::kDone;
    return response;
  };
}

absl::StatusOr<std::unique_ptr<api::Subscription>> AdminCases::Watch(
    const admin::v1::WatchRequest& request, api::WatchSink sink) {
  const std::string& handle = request.device_handle();
  return watchers_->Add(handle, std::move(sink),
                        request.initial_state() ? InitialState(handle) : Watchers::Initial());
}

void AdminCases::PublishTarget() {
  if (!watchers_->any()) return;
  auto response = NewResponse();
  *response->mutable_status() = messages_.OfAgent();
  watchers_->Publish("", std::move(response));
  for (const std::string& handle : watchers_->handles()) {
    std::optional<record::Device> device = core_.record->FindDevice(handle);
    if (!device) continue;
    PublishDevice(*device);
    for (const record::Volume& row : core_.record->VolumesOf(handle)) PublishVolume(row);
  }
}

void AdminCases::PublishDevice(const record::Device& row) {
  auto response = NewResponse();
  *response->mutable_device() = messages_.Of(row);
  watchers_->Publish(row.handle, std::move(response));
}

void AdminCases::PublishVolume(const record::Volume& row) {
  auto response = NewResponse();
  *response->mutable_volume() = messages_.Of(row);
  watchers_->Publish(row.device_handle, std::move(response));
}

void AdminCases::PublishVolume(const base::Uuid& volume) {
  if (!watchers_->any()) return;
  std::optional<record::Volume> row = core_.record->FindVolume(volume);
  if (!row) return;
  PublishVolume(*row);
  std::optional<record::Device> device = core_.record->FindDevice(row->device_handle);
  if (device) PublishDevice(*device);
}

void AdminCases::Publish(const record::Change& change) {
  for (const record::Device& row : change.put_devices) PublishDevice(row);
  std::set<std::string> with_problems;
  for (const record::Volume& row : change.put_volumes) {
    PublishVolume(row);
    // A problem of a volume also changes the reported state of its device.
    if (row.last_error.time != record::Time()) with_problems.insert(row.device_handle);
  }
  for (const std::string& handle : with_problems) {
    if (std::optional<record::Device> device = core_.record->FindDevice(handle)) {
      PublishDevice(*device);
    }
  }
  for (const base::Uuid& id : change.remove_volumes) {
    auto response = NewResponse();
    response->set_volume_removed(id.ToBytes());
    watchers_->PublishToAll(std::move(response));
  }
  for (const std::string& handle : change.remove_devices) {
    auto response = NewResponse();
    response->set_device_removed(handle);
    watchers_->Publish(handle, std::move(response));
  }
}

}  // namespace sma::core
