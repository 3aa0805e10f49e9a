#include "agent/core/restore.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <optional>

#include "agent/core/operation.h"
#include "agent/core/settle.h"
#include "agent/spdk/bdev.h"

namespace sma::core {
namespace {

using record::DeviceState;
using record::Durability;
using record::VolumeState;

// Volumes of the device whose removal or attachment was not finished.
absl::Status SettleVolumesOf(Core& core, const base::Context& context, const std::string& handle) {
  absl::Status first;
  for (const record::Volume& volume : core.record->VolumesOf(handle)) {
    if (volume.state == VolumeState::kAttached) continue;
    auto lock = core.locks.Acquire(context, {LockTable::Volume(volume.id)});
    first.Update(lock.ok() ? SettleVolume(core, context, volume.id, /*now=*/false) : lock.status());
  }
  return first;
}

std::vector<record::Volume> AttachedVolumes(const Core& core, const std::string& handle) {
  std::vector<record::Volume> attached = core.record->VolumesOf(handle);
  std::erase_if(attached,
                [](const record::Volume& v) { return v.state != VolumeState::kAttached; });
  return attached;
}

// Sets the limits that a volume had: its bdev may be a new one.
absl::Status RestoreLimits(Core& core, const base::Context& context, DeviceManager& manager,
                           const DeviceSpec& device, const DeviceVolume& volume) {
  std::optional<QosLimit> limits = core.record->FindLimits(volume.id);
  if (!limits) return absl::OkStatus();
  // Asked before: what is set then stays.
  const bool may_act = MayActLate(core, {ObjectOf(volume.id)});
  absl::Status status = manager.SetQos(context, device, &volume, *limits).status();
  if (status.ok() && may_act) {
    status = absl::UnavailableError("the target may still set other limits");
  }
  if (!status.ok()) core.unset_limits.Add(volume.id);
  return status;
}

// Sets limits that somebody else has changed.
absl::Status CompareLimits(Core& core, const base::Context& context, DeviceManager& manager,
                           const DeviceSpec& device, const DeviceVolume& volume,
                           const RestoreOptions& options) {
  absl::StatusOr<bool> differs = options.limits->Differs(core, context, volume);
  if (!differs.ok() || !*differs) return differs.status();
  if (!options.repair) {
    return absl::UnavailableError("its limits on the target are not those that were set");
  }
  spdlog::warn("{}: volume {}: its limits on the target were not those that were set",
               device.handle, volume.id.ToString());
  return RestoreLimits(core, context, manager, device, volume);
}

// Makes sure that the volume is there for its device to attach.
absl::Status RestoreConnection(Core& core, const base::Context& context, record::Volume& row) {
  const record::Volume before = row;
  absl::Status status = core.volumes->Restore(context, row);
  if (record::SameConnection(row, before)) return status;
  record::Change change;
  change.put_volumes.push_back(row);
  status.Update(core.record->Write(std::move(change), Durability::kHost));
  return status;
}

// Whether what is wrong with the volume is that the target has no bdev of it; `status` says so
// then.
bool IsGone(const Core& core, const base::Context& context, const record::Volume& row,
            absl::Status& status) {
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(core.target, context, row.id.ToString(), std::chrono::nanoseconds(0));
  if (!bdev.ok() || *bdev) return false;
  status = absl::NotFoundError(
      fmt::format("volume {} is gone: the target has no bdev of it", row.id.ToString()));
  return true;
}

// A volume that is given up, if so configured, is taken off the device by the next comparison.
record::Volume Overdue(const Core& core, record::Volume row) {
  if (!core.options.detach_gone_volumes) return row;
  spdlog::warn("volume {} is detached: it has been gone for too long", row.id.ToString());
  return InState(std::move(row), VolumeState::kDetaching);
}

// Sets the limits that the device as a whole had: all, or only where they may not be as in the
// record.
absl::Status RestoreDeviceLimits(Core& core, const base::Context& context, DeviceManager& manager,
                                 const DeviceSpec& device, bool all) {
  const base::Uuid key = LimitsKeyOf(device.handle);
  if (!core.unset_limits.Take(key) && !all) return absl::OkStatus();
  std::optional<QosLimit> limits = core.record->FindLimits(key);
  if (!limits) return absl::OkStatus();
  absl::Status status = manager.SetQos(context, device, /*volume=*/nullptr, *limits).status();
  if (!status.ok()) core.unset_limits.Add(key);
  return status;
}

bool SameError(const record::LastError& error, const absl::Status& status) {
  return error.code == status.code() && error.message == status.message();
}

}  // namespace

absl::Status RestoreDevice(Core& core, const base::Context& context, const std::string& handle,
                           const RestoreOptions& options) {
  auto lock = core.locks.Acquire(context, {LockTable::Device(handle)});
  if (!lock.ok()) return lock.status();
  std::optional<record::Device> row = core.record->FindDevice(handle);
  if (!row) return absl::OkStatus();
  if (row->state != DeviceState::kReady) {
    return SettleDevice(core, context, handle, /*now=*/false).status();
  }
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *row);
  if (!manager.ok()) return manager.status();
  absl::Status first = SettleVolumesOf(core, context, handle);

  const DeviceSpec device = SpecOf(*row);
  std::vector<record::Volume> rows = AttachedVolumes(core, handle);
  const jsonrpc::CallScope scope(ObjectsOf(handle, rows));
  std::vector<absl::Status> connected(rows.size());
  for (size_t i = 0; i < rows.size() && options.repair; ++i) {
    connected[i] = RestoreConnection(core, context, rows[i]);
  }
  const std::vector<DeviceVolume> volumes = VolumesOf(rows);
  bool fresh =
      options.listing != nullptr && !core.record->ChangedSince(handle, options.listing_revision);
  RestoreResult result =
      (*manager)->Restore(context, {.device = device,
                                    .volumes = volumes,
                                    .listing = fresh ? options.listing : nullptr,
                                    .repair = options.repair,
                                    .expose_incomplete = options.expose_incomplete});
  record::Change change;
  const bool has_new_mark = !result.mark.empty() && result.mark != row->mark;
  if (has_new_mark) row->mark = result.mark;
  if (has_new_mark || !SameError(row->last_error, result.status)) {
    change.put_devices.push_back(WithError(*row, result.status));
    for (const std::string& difference : result.differences) {
      spdlog::warn("{}: {}", handle, difference);
    }
  }
  first.Update(result.status);
  if (result.status.ok() && options.repair) {
    first.Update(RestoreDeviceLimits(core, context, **manager, device, options.set_limits));
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    RestoredVolume& restored = result.volumes[i];
    absl::Status status = connected[i];
    status.Update(restored.attachment.status());
    record::Volume volume = rows[i];
    if (restored.attachment.ok()) volume.attachment = *restored.attachment;
    const bool set_limits = options.set_limits || restored.attached_again;
    if (status.ok() && (core.unset_limits.Take(volume.id) || set_limits)) {
      status = RestoreLimits(core, context, **manager, device, VolumeOf(volume));
    } else if (status.ok() && options.limits != nullptr && !(*manager)->traits().names_devices) {
      // What the limits of a plugin's device are set on, the plugin alone knows.
      status = CompareLimits(core, context, **manager, device, VolumeOf(volume), options);
    }
    // One that is being connected in the background has told why it is missing.
    const bool is_connecting = !status.ok() && core.volumes->IsConnecting(volume);
    const bool is_gone = is_connecting || (!status.ok() && IsGone(core, context, volume, status));
    const bool may_end = is_gone && result.status.ok() && volume::IsRemote(volume);
    if (core.gone_volumes->Look(volume.id, may_end)) {
      volume = Overdue(core, std::move(volume));
      status = absl::NotFoundError("it has been gone for longer than volume_cleanup_period");
    }
    // The device is looked at again when it is connected.
    if (!is_connecting) first.Update(status);
    if (!status.ok() && !SameError(volume.last_error, status)) {
      spdlog::warn("{}: volume {}: {}", handle, volume.id.ToString(),
                   std::string(status.message()));
    }
    if (volume.state != rows[i].state || volume.attachment != rows[i].attachment ||
        !SameError(volume.last_error, status)) {
      change.put_volumes.push_back(WithError(std::move(volume), status));
    }
  }
  if (!change.put_devices.empty() || !change.put_volumes.empty()) {
    first.Update(core.record->Write(std::move(change), Durability::kProcess));
  }
  if (!result.differences.empty() && first.ok()) spdlog::info("{}: restored", handle);
  return first;
}

}  // namespace sma::core
