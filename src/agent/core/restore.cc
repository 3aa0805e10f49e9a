#include "agent/core/restore.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <optional>

#include "agent/core/operation.h"
#include "agent/core/settle.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/qos.h"

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

// Limits that are being set are not applied yet: the mark goes when they are.
void MarkLimits(Core& core, const base::Uuid& key, bool are_set) {
  are_set ? core.unset_limits.Remove(key) : core.unset_limits.Add(key);
}

// Sets the limits that a volume had: its bdev may be a new one.
absl::Status RestoreLimits(Core& core, const base::Context& context, DeviceManager& manager,
                           const DeviceSpec& device, const DeviceVolume& volume) {
  std::optional<QosLimit> limits = core.record->FindLimits(volume.id);
  if (!limits) {
    MarkLimits(core, volume.id, /*are_set=*/true);
    return absl::OkStatus();
  }
  // Asked before: what is set then stays.
  const bool may_act = MayActLate(core, {ObjectOf(volume.id)});
  absl::Status status = manager.SetQos(context, device, &volume, *limits).status();
  if (status.ok() && may_act) {
    status = absl::UnavailableError("the target may still set other limits");
  }
  MarkLimits(core, volume.id, status.ok());
  return status;
}

// What is not wanted in particular may be anything.
bool AreApplied(const spdk::RateLimits& there, const spdk::RateLimits& wanted) {
  auto same = [](std::optional<uint64_t> is, std::optional<uint64_t> should) {
    return !should || is.value_or(0) == *should;
  };
  return same(there.rw_ios_per_sec, wanted.rw_ios_per_sec) &&
         same(there.rw_mbytes_per_sec, wanted.rw_mbytes_per_sec) &&
         same(there.r_mbytes_per_sec, wanted.r_mbytes_per_sec) &&
         same(there.w_mbytes_per_sec, wanted.w_mbytes_per_sec);
}

// Sets limits that somebody else has changed.
absl::Status CompareLimits(Core& core, const base::Context& context, DeviceManager& manager,
                           const DeviceSpec& device, const DeviceVolume& volume, bool repair) {
  std::optional<QosLimit> limits = core.record->FindLimits(volume.id);
  if (!limits) return absl::OkStatus();
  absl::StatusOr<spdk::RateLimits> wanted = spdk::ToRateLimits(*limits);
  if (!wanted.ok()) return wanted.status();
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(core.target, context, volume.bdev_name, std::chrono::nanoseconds(0));
  if (!bdev.ok() || !*bdev || AreApplied((*bdev)->limits, *wanted)) return bdev.status();
  if (!repair) {
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
  if (!core.unset_limits.Contains(key) && !all) return absl::OkStatus();
  std::optional<QosLimit> limits = core.record->FindLimits(key);
  absl::Status status;
  if (limits) status = manager.SetQos(context, device, /*volume=*/nullptr, *limits).status();
  MarkLimits(core, key, status.ok());
  return status;
}

bool SameError(const record::LastError& error, const absl::Status& status) {
  return error.code == status.code() && error.message == status.message();
}

/// A device that is being restored, under its lock.
struct Restoring {
  Core& core;
  const base::Context& context;
  DeviceManager& manager;
  const DeviceSpec device;
  const RestoreOptions& options;
};

// The limits of a volume, where they have to be set, or may have been changed.
absl::Status RestoreLimitsOf(const Restoring& restoring, const DeviceVolume& volume,
                             bool attached_again) {
  auto& [core, context, manager, device, options] = restoring;
  const bool is_marked = options.repair && core.unset_limits.Contains(volume.id);
  if (is_marked || (options.repair && (options.set_limits || attached_again))) {
    return RestoreLimits(core, context, manager, device, volume);
  }
  // What the limits of a plugin's device are set on, the plugin alone knows.
  if (!options.compare_limits || manager.traits().names_devices) return absl::OkStatus();
  return CompareLimits(core, context, manager, device, volume, options.repair);
}

// Looks what came of a volume; its row then has what is to be kept.
absl::Status CheckVolume(const Restoring& restoring, const absl::Status& connected,
                         const RestoreResult& result, const RestoredVolume& restored,
                         record::Volume& row) {
  auto& [core, context, manager, device, options] = restoring;
  absl::Status status = connected;
  status.Update(restored.attachment.status());
  if (restored.attachment.ok()) row.attachment = *restored.attachment;
  if (status.ok()) status = RestoreLimitsOf(restoring, VolumeOf(row), restored.attached_again);
  // One that is being connected in the background has told why it is missing.
  const bool is_connecting = !status.ok() && core.volumes->IsConnecting(row);
  const bool is_gone = is_connecting || (!status.ok() && IsGone(core, context, row, status));
  const bool may_end = is_gone && result.status.ok() && volume::IsRemote(row);
  if (core.gone_volumes->Look(row.id, may_end)) {
    row = Overdue(core, std::move(row));
    status = absl::NotFoundError("it has been gone for longer than volume_cleanup_period");
  }
  if (!status.ok() && !SameError(row.last_error, status)) {
    spdlog::warn("{}: volume {}: {}", device.handle, row.id.ToString(),
                 std::string(status.message()));
  }
  return status;
}

// What the device manager is to compare with: the listing, unless a call came after it.
RestoreResult RestoreOnTarget(const Restoring& restoring,
                              const std::vector<DeviceVolume>& volumes) {
  auto& [core, context, manager, device, options] = restoring;
  const bool is_fresh = options.listing != nullptr &&
                        !core.record->ChangedSince(device.handle, options.listing_revision);
  return manager.Restore(context, {.device = device,
                                   .volumes = volumes,
                                   .listing = is_fresh ? options.listing : nullptr,
                                   .repair = options.repair,
                                   .expose_incomplete = options.expose_incomplete});
}

// The device with its attached volumes; writes what came of it.
absl::Status RestoreReady(const Restoring& restoring, const record::Device& row) {
  auto& [core, context, manager, device, options] = restoring;
  std::vector<record::Volume> rows = AttachedVolumes(core, row.handle);
  const jsonrpc::CallScope scope(ObjectsOf(row.handle, rows));
  std::vector<absl::Status> connected(rows.size());
  for (size_t i = 0; i < rows.size() && options.repair; ++i) {
    connected[i] = RestoreConnection(core, context, rows[i]);
  }
  const RestoreResult result = RestoreOnTarget(restoring, VolumesOf(rows));
  record::Change change;
  const bool has_new_mark = !result.mark.empty() && result.mark != row.mark;
  if (has_new_mark || !SameError(row.last_error, result.status)) {
    change.put_devices.push_back(WithError(row, result.status));
    if (has_new_mark) change.put_devices.back().mark = result.mark;
    for (const std::string& difference : result.differences) {
      spdlog::warn("{}: {}", row.handle, difference);
    }
  }
  absl::Status first = result.status;
  if (result.status.ok() && options.repair) {
    first.Update(RestoreDeviceLimits(core, context, manager, device, options.set_limits));
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    record::Volume volume = rows[i];
    absl::Status status = CheckVolume(restoring, connected[i], result, result.volumes[i], volume);
    // The device is looked at again when the volume is connected.
    if (!core.volumes->IsConnecting(volume)) first.Update(status);
    if (volume.state != rows[i].state || volume.attachment != rows[i].attachment ||
        !SameError(volume.last_error, status)) {
      change.put_volumes.push_back(WithError(std::move(volume), status));
    }
  }
  if (!record::IsEmpty(change)) {
    first.Update(core.record->Write(std::move(change), Durability::kProcess));
  }
  if (!result.differences.empty() && first.ok()) spdlog::info("{}: restored", row.handle);
  return first;
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
  absl::Status settled = SettleVolumesOf(core, context, handle);
  absl::Status restored = RestoreReady({.core = core,
                                        .context = context,
                                        .manager = **manager,
                                        .device = SpecOf(*row),
                                        .options = options},
                                       *row);
  settled.Update(restored);
  return settled;
}

}  // namespace sma::core
