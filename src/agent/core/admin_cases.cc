#include "agent/core/admin_cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "agent/core/admin_messages.h"
#include "agent/core/adoption.h"
#include "agent/core/reconciler.h"

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

AdminCases::AdminCases(Core& core, Reconciler& reconciler) : core_(core), reconciler_(reconciler) {
  core_.record->SetObserver([this](const record::Change& change) {
    for (const base::Uuid& id : change.remove_volumes) {
      core_.unset_limits.Remove(id);
      core_.gone_volumes->Forget(id);
      core_.paths->Update(id, std::nullopt);
    }
    for (const base::Uuid& id : change.remove_limits) core_.unset_limits.Remove(id);
    if (watchers_->any()) Tell(change);
  });
}

admin::v1::Device AdminCases::Message(const record::Device& row) const {
  const DeviceManager* manager = core_.registry.ForName(row.manager);
  const std::vector<record::Volume> volumes = core_.record->VolumesOf(row.handle);
  DeviceFacts facts;
  if (manager != nullptr) facts.type = manager->type();
  base::Uuid limits_key = LimitsKeyOf(row.handle);
  // The limits of such a device are those of its one volume.
  if (manager != nullptr && manager->traits().needs_volume && volumes.size() == 1) {
    limits_key = volumes.front().id;
  }
  facts.limits = core_.record->FindLimits(limits_key);
  facts.limits_applied = !core_.unset_limits.Contains(limits_key);
  facts.is_compared = reconciler_.IsCompared(row.manager);
  for (const record::Volume& volume : volumes) {
    const auto paths = core_.paths->Find(volume.id);
    if (paths && paths->paths.up == 0) facts.unreachable.push_back(volume.id);
  }
  return DeviceMessage(row, facts, volumes);
}

admin::v1::Volume AdminCases::Message(const record::Volume& row) const {
  VolumeFacts facts;
  facts.limits = core_.record->FindLimits(row.id);
  facts.limits_applied = !core_.unset_limits.Contains(row.id);
  facts.paths = core_.paths->Find(row.id);
  if (std::optional<record::Device> device = core_.record->FindDevice(row.device_handle)) {
    facts.is_compared = reconciler_.IsCompared(device->manager);
  }
  admin::v1::Volume message = VolumeMessage(row, facts);
  if (message.has_encryption()) {
    message.mutable_encryption()->set_engine(std::string(core_.volumes->engine_name()));
  }
  return message;
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
      admin::v1::Device device = Message(row);
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
  if (row) return Message(*row);
  return absl::NotFoundError(fmt::format("handle: there is no device {}", request.handle()));
}

absl::StatusOr<admin::v1::ListVolumesResponse> AdminCases::ListVolumes(
    const base::Context& /*context*/, const admin::v1::ListVolumesRequest& request) {
  std::optional<base::Uuid> after;
  if (!request.page_token().empty()) {
    after = base::Uuid::Parse(request.page_token());
    if (!after) return absl::InvalidArgumentError("page_token: not one of ours");
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
    *response.add_volumes() = Message(row);
    after = row.id;
  }
  return response;
}

absl::StatusOr<admin::v1::Volume> AdminCases::GetVolume(
    const base::Context& /*context*/, const admin::v1::GetVolumeRequest& request) {
  absl::StatusOr<base::Uuid> id = CheckVolumeId(request.volume_id());
  if (!id.ok()) return id.status();
  if (std::optional<record::Volume> row = core_.record->FindVolume(*id)) return Message(*row);
  return absl::NotFoundError(fmt::format("volume_id: there is no volume {}", id->ToString()));
}

admin::v1::Status AdminCases::StatusMessage() const {
  admin::v1::Status status;
  reconciler_.FillStatus(status);
  status.set_version(core_.options.version);
  status.mutable_target()->set_socket(core_.options.target_socket);
  status.mutable_target()->set_embedded(core_.options.embedded_target);
  status.set_device_count(static_cast<uint32_t>(core_.record->device_count()));
  status.set_volume_count(static_cast<uint32_t>(core_.record->volume_count()));
  uint32_t degraded = 0;
  for (const record::Device& row : core_.record->Devices()) {
    if (Message(row).state() != admin::v1::STATE_READY) ++degraded;
  }
  for (const record::Volume& row : core_.record->Volumes()) {
    VolumeFacts facts;
    facts.paths = core_.paths->Find(row.id);
    if (VolumeMessage(row, facts).state() != admin::v1::STATE_READY) ++degraded;
  }
  status.set_degraded_count(degraded);
  return status;
}

absl::StatusOr<admin::v1::Status> AdminCases::GetStatus(
    const base::Context& /*context*/, const admin::v1::GetStatusRequest& /*request*/) {
  return StatusMessage();
}

absl::StatusOr<admin::v1::ListPluginsResponse> AdminCases::ListPlugins(
    const base::Context& /*context*/, const admin::v1::ListPluginsRequest& /*request*/) {
  admin::v1::ListPluginsResponse response;
  for (const admin::v1::Plugin& plugin : core_.options.plugins) *response.add_plugins() = plugin;
  return response;
}

absl::StatusOr<std::vector<AdoptionCandidate>> AdminCases::Candidates(
    const base::Context& context, DeviceManager& manager) const {
  absl::StatusOr<std::unique_ptr<DeviceListing>> listing = manager.List(context);
  if (!listing.ok()) return listing.status();
  std::vector<std::string> known;
  for (const record::Device& row : core_.record->Devices()) known.push_back(row.handle);
  return manager.ListAdoptionCandidates(**listing, known);
}

absl::StatusOr<admin::v1::ListAdoptionCandidatesResponse> AdminCases::ListAdoptionCandidates(
    const base::Context& context, const admin::v1::ListAdoptionCandidatesRequest& /*request*/) {
  admin::v1::ListAdoptionCandidatesResponse response;
  for (const auto& manager : core_.registry.managers()) {
    auto candidates = Candidates(context, *manager);
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
    return absl::NotFoundError(fmt::format("handle: no device type has {}", request.handle()));
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
    return Message(*row);
  }
  auto candidates = Candidates(context, *manager);
  if (!candidates.ok()) return candidates.status();
  auto found =
      std::find_if(candidates->begin(), candidates->end(),
                   [&](const AdoptionCandidate& c) { return c.device.handle == request.handle(); });
  if (found == candidates->end()) {
    return absl::NotFoundError(fmt::format("handle: {} is not on the target", request.handle()));
  }
  absl::StatusOr<record::Change> change = AdoptionOf(*found, *manager, confirmed, *core_.record);
  if (!change.ok()) return WithContext(request.handle(), change.status());
  for (record::Volume& row : change->put_volumes) {
    auto volume = std::find_if(found->volumes.begin(), found->volumes.end(),
                               [&](const DeviceVolume& v) { return v.id == row.id; });
    absl::Status adopted = core_.volumes->Adopt(context, volume->bdev_name, row);
    if (!adopted.ok()) return WithContext(request.handle(), adopted);
  }
  absl::Status status = core_.record->Write(*std::move(change), record::Durability::kHost);
  if (!status.ok()) return status;
  return Message(*core_.record->FindDevice(request.handle()));
}

// Goes through the record a row at each call, as the watcher takes them: nothing is kept for one
// that does not read.
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
        *response->mutable_device() = Message(*row);
        return response;
      }
      phase = Phase::kVolumes;
    }
    if (phase == Phase::kVolumes) {
      const std::vector<record::Volume> rows = next_volume(after_volume);
      if (!rows.empty()) {
        after_volume = rows.front().id;
        *response->mutable_volume() = Message(rows.front());
        return response;
      }
      phase = handle.empty() ? Phase::kStatus : Phase::kSynced;
    }
    if (phase == Phase::kDone) return nullptr;
    if (phase == Phase::kStatus) {
      *response->mutable_status() = StatusMessage();
    } else {
      response->mutable_synced();
    }
    phase = phase == Phase::kStatus ? Phase::kSynced : Phase::kDone;
    return response;
  };
}

absl::StatusOr<std::unique_ptr<service::Subscription>> AdminCases::Watch(
    const admin::v1::WatchRequest& request, service::WatchSink sink) {
  const std::string& handle = request.device_handle();
  return watchers_->Add(handle, std::move(sink),
                        request.initial_state() ? InitialState(handle) : Watchers::Initial());
}

void AdminCases::TellStatus() {
  if (!watchers_->any()) return;
  auto response = NewResponse();
  *response->mutable_status() = StatusMessage();
  watchers_->Tell("", std::move(response));
}

void AdminCases::TellVolume(const base::Uuid& volume) {
  if (!watchers_->any()) return;
  std::optional<record::Volume> row = core_.record->FindVolume(volume);
  if (!row) return;
  auto response = NewResponse();
  *response->mutable_volume() = Message(*row);
  watchers_->Tell(row->device_handle, std::move(response));
  std::optional<record::Device> device = core_.record->FindDevice(row->device_handle);
  if (!device) return;
  response = NewResponse();
  *response->mutable_device() = Message(*device);
  watchers_->Tell(device->handle, std::move(response));
}

void AdminCases::Tell(const record::Change& change) {
  for (const record::Device& row : change.put_devices) {
    auto response = NewResponse();
    *response->mutable_device() = Message(row);
    watchers_->Tell(row.handle, std::move(response));
  }
  for (const record::Volume& row : change.put_volumes) {
    auto response = NewResponse();
    *response->mutable_volume() = Message(row);
    watchers_->Tell(row.device_handle, std::move(response));
  }
  for (const base::Uuid& id : change.remove_volumes) {
    auto response = NewResponse();
    response->set_volume_removed(id.ToBytes());
    watchers_->TellAll(std::move(response));
  }
  for (const std::string& handle : change.remove_devices) {
    auto response = NewResponse();
    response->set_device_removed(handle);
    watchers_->Tell(handle, std::move(response));
  }
}

}  // namespace sma::core
