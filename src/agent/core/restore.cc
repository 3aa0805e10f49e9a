// SPDX-License-Identifier: Apache-2.0

#include "agent/core/restore.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>

#include "agent/core/operation.h"
#include "agent/core/restore_limits.h"
#include "agent/core/settle.h"
#include "agent/spdk/bdev.h"
#include "agent/volume/shared_names.h"
#include "base/log_limit.h"

namespace sma::core {
namespace {

using record::DeviceState;
using record::Durability;
using record::VolumeState;

// Finishes the volumes of the device that are being attached or detached.
absl::Status SettleVolumesOf(Core& core, const base::Context& context, const std::string& handle) {
  absl::Status first;
  for (const record::Volume& volume : core.record->VolumesOf(handle)) {
    if (volume.state == VolumeState::kAttached) continue;
    auto lock = core.locks.Acquire(context, {LockTable::Volume(volume.id)});
    first.Update(lock.ok() ? SettleVolume(core, context, volume.id, /*now=*/false).status()
                           : lock.status());
  }
  return first;
}

// A device that needs its volume cannot lose it. Earlier versions began to detach such a volume
// when it had been missing for too long, and could not finish: sets it back to attached.
absl::Status KeepVolumesOf(Core& core, const base::Context& context, const std::string& handle) {
  record::Change change;
  for (const record::Volume& volume : core.record->VolumesOf(handle)) {
    if (volume.state != VolumeState::kDetaching) continue;
    auto lock = core.locks.Acquire(context, {LockTable::Volume(volume.id)});
    if (!lock.ok()) return lock.status();
    change.put_volumes.push_back(InState(volume, VolumeState::kAttached));
  }
  if (record::IsEmpty(change)) return absl::OkStatus();
  return core.record->Write(std::move(change), Durability::kProcess);
}

std::vector<record::Volume> AttachedVolumes(const Core& core, const std::string& handle) {
  std::vector<record::Volume> attached = core.record->VolumesOf(handle);
  std::erase_if(attached,
                [](const record::Volume& v) { return v.state != VolumeState::kAttached; });
  return attached;
}

// Returns true if the target has no bdev of the volume.
bool HasNoBdev(const Core& core, const base::Context& context, const record::Volume& row) {
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(core.target, context, row.id.ToString(), std::chrono::nanoseconds(0));
  return bdev.ok() && !*bdev;
}

// Handles a volume that has been missing for too long: if so configured, the next comparison
// detaches it. A device that needs its volume keeps it until the device is deleted. If the volume's
// storage node does not answer, the volume may still exist, so the period starts again.
void HandleOverdue(const Core& core, const base::Context& context, const DeviceManager& manager,
                   record::Volume& row, absl::Status& status) {
  if (!core.volumes->IsGone(context, row)) return core.gone_volumes->Forget(row.id);
  status = absl::NotFoundError(
      fmt::format("the volume has been missing for longer than volume_cleanup_period: {}",
                  std::string(core.volumes->WhyMissing(row).message())));
  if (!core.options.detach_gone_volumes || manager.traits().needs_volume) return;
  spdlog::warn("volume {}: missing for longer than volume_cleanup_period, detaching it",
               row.id.ToString());
  row = InState(std::move(row), VolumeState::kDetaching);
}

bool SameError(const record::LastError& error, const absl::Status& status) {
  return error.code == status.code() && error.message == status.message();
}

/// A device that is being restored, with its lock held.
struct Restoring {
  Core& core;
  const base::Context& context;
  DeviceManager& manager;
  const DeviceSpec device;
  const RestoreOptions& options;
};

// Returns true if the limits of a volume are to be set, whatever they are on the target.
bool SetsLimits(const Restoring& restoring, const base::Uuid& volume, bool attached_again) {
  const RestoreOptions& options = restoring.options;
  return options.repair &&
         (options.set_limits || attached_again || restoring.core.unset_limits.Contains(volume));
}

// Sets or compares the limits of a volume, if that is needed.
absl::Status RestoreLimitsOf(const Restoring& restoring, const DeviceVolume& volume,
                             bool attached_again) {
  auto& [core, context, manager, device, options] = restoring;
  if (SetsLimits(restoring, volume.id, attached_again)) {
    return RestoreLimits(core, context, manager, device, volume);
  }
  // Only a plugin knows where it sets the limits of its devices.
  if (!options.compare_limits || manager.traits().names_devices) return absl::OkStatus();
  return CompareLimits(core, context, manager, device, volume, options.repair);
}

// The bdev of the volume has been replaced, perhaps through another connection: the next comparison
// leaves the connection on which the volume no longer depends.
void NoteMoved(const Core& core, const base::Context& context, const base::Uuid& id) {
  const uint64_t generation = core.target.generation();
  auto bdev = spdk::FindBdev(core.target, context, id.ToString(), std::chrono::nanoseconds(0));
  if (bdev.ok()) core.volumes->NoteBdev(generation, id, *bdev);
}

// After a restart of the target there may be thousands of lines. The pass over all devices logs a
// summary.
base::LogLimit& LinesOfVolumes() {
  static base::LogLimit limit(/*burst=*/100, /*per_second=*/5);
  return limit;
}
base::LogLimit& LinesOfDevices() {
  static base::LogLimit limit(/*burst=*/100, /*per_second=*/5);
  return limit;
}

// Evaluates the results for one volume, and updates its row.
absl::Status CheckVolume(const Restoring& restoring, const absl::Status& connected,
                         const RestoreResult& result, const RestoredVolume& restored,
                         record::Volume& row) {
  auto& [core, context, manager, device, options] = restoring;
  absl::Status status = connected;
  status.Update(restored.attachment.status());
  const bool has_moved =
      restored.attachment.ok() && !row.attachment.empty() && row.attachment != *restored.attachment;
  if (has_moved && volume::IsRemote(row)) NoteMoved(core, context, row.id);
  if (restored.attachment.ok()) row.attachment = *restored.attachment;
  if (status.ok()) status = RestoreLimitsOf(restoring, VolumeOf(row), restored.attached_again);
  // While it is being connected in the background, `connected` says why it is missing.
  const bool is_connecting = !status.ok() && core.volumes->IsConnecting(row);
  const bool is_missing = is_connecting || (!status.ok() && HasNoBdev(core, context, row));
  if (is_missing && connected.ok()) status = core.volumes->WhyMissing(row);
  const bool may_end = is_missing && result.status.ok() && volume::IsRemote(row);
  if (core.gone_volumes->Update(row.id, may_end)) {
    HandleOverdue(core, context, manager, row, status);
  }
  if (!status.ok() && !absl::IsCancelled(status) && !SameError(row.last_error, status)) {
    LinesOfVolumes().Log(spdlog::level::warn, "{}: volume {}: {}", device.handle, row.id.ToString(),
                         std::string(status.message()));
  }
  return status;
}

// Calls the device manager with the listing, unless the device has changed since the listing was
// made.
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

// Returns true if the volume needs neither a connection nor a layer on the target.
bool IsPlain(const record::Volume& row) {
  return !volume::IsRemote(row) && !row.params.has_crypto();
}

// Restores the device with its volumes, except those whose bdev may belong to another owner and
// must not be exported.
RestoreResult RestoreExportable(const Restoring& restoring, const std::vector<record::Volume>& rows,
                                const std::vector<Connected>& connected) {
  std::vector<DeviceVolume> volumes;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (connected[i].may_export) volumes.push_back(VolumeOf(rows[i]));
  }
  RestoreResult result = RestoreOnTarget(restoring, volumes);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (connected[i].may_export) continue;
    result.volumes.insert(result.volumes.begin() + static_cast<ptrdiff_t>(i),
                          {.attachment = connected[i].status});
  }
  return result;
}

base::Context WithinLockTime(const base::Context& context, const RestoreOptions& options) {
  if (options.lock_time == std::chrono::nanoseconds::max()) return context;
  return context.Child(std::chrono::steady_clock::now() + options.lock_time);
}

// Writes `change` with the connections that the record now has for its volumes: calls for other
// volumes, which do not hold a volume's lock, may have recorded that it depends on their
// connection.
absl::Status WriteRestored(record::Record& record, record::Change change) {
  auto make = [&] {
    for (record::Volume& volume : change.put_volumes) {
      std::optional<record::Volume> now = record.FindVolume(volume.id);
      if (now) volume.connection = std::move(now->connection);
    }
    return std::move(change);
  };
  return record.Update(make, Durability::kProcess);
}

// An error that only says that the restore was interrupted, for example because the agent is
// stopping, says nothing about the object, whose recorded error remains.
bool IsNews(const record::LastError& recorded, const absl::Status& status) {
  return !absl::IsCancelled(status) && !SameError(recorded, status);
}

template <typename Row>
Row WithNews(Row row, const absl::Status& status) {
  return absl::IsCancelled(status) ? row : WithError(std::move(row), status);
}

// Restores the connections of a device's volumes. Waits only briefly for storage nodes (see
// RemoteNodes::kImpatience): the other volumes are exported first, and the device is restored again
// once a node has answered.
std::vector<Connected> RestoreConnections(const Restoring& restoring,
                                          std::vector<record::Volume>& rows) {
  std::vector<Connected> connected(rows.size());
  if (!restoring.options.repair) return connected;
  for (size_t i = 0; i < rows.size(); ++i) {
    connected[i] = RestoreConnection(restoring.core, restoring.context, rows[i]);
  }
  return connected;
}

// Restores the device with its attached volumes, and writes the result to the record.
absl::Status RestoreReady(const Restoring& restoring, const record::Device& row) {
  auto& [core, context, manager, device, options] = restoring;
  std::vector<record::Volume> rows = AttachedVolumes(core, row.handle);
  const jsonrpc::CallScope scope(ObjectsOf(row.handle, rows));
  const std::vector<Connected> connected = RestoreConnections(restoring, rows);
  const RestoreResult result = RestoreExportable(restoring, rows, connected);
  record::Change change;
  const bool has_new_mark = !result.mark.empty() && result.mark != row.mark;
  const bool has_new_place = !result.place.empty() && result.place != row.place;
  if (has_new_mark || has_new_place || IsNews(row.last_error, result.status)) {
    change.put_devices.push_back(WithNews(row, result.status));
    if (has_new_mark) change.put_devices.back().mark = result.mark;
    if (has_new_place) change.put_devices.back().place = result.place;
    for (const std::string& difference : result.differences) {
      LinesOfDevices().Log(spdlog::level::warn, "{}: {}", row.handle, difference);
    }
  }
  absl::Status first = result.status;
  if (result.status.ok() && options.repair) {
    first.Update(RestoreDeviceLimits(core, context, manager, device, options.set_limits));
  }
  bool are_limits_set = true;
  for (size_t i = 0; i < rows.size(); ++i) {
    record::Volume volume = rows[i];
    const bool sets_limits = SetsLimits(restoring, volume.id, result.volumes[i].attached_again);
    absl::Status status =
        CheckVolume(restoring, connected[i].status, result, result.volumes[i], volume);
    are_limits_set = are_limits_set && sets_limits && status.ok();
    // A volume that is being connected is no reason to retry: its device is restored again once the
    // volume is connected.
    if (!core.volumes->IsConnecting(volume)) first.Update(status);
    if (volume.state != rows[i].state || volume.attachment != rows[i].attachment ||
        IsNews(volume.last_error, status)) {
      change.put_volumes.push_back(WithNews(std::move(volume), status));
    }
  }
  const bool has_changes = !record::IsEmpty(change);
  if (has_changes) {
    first.Update(WriteRestored(*core.record, std::move(change)));
  }
  if (!result.differences.empty() && first.ok()) {
    LinesOfDevices().Log(spdlog::level::info, "{}: restored", row.handle);
  }
  if (options.findings != nullptr) {
    const bool is_same = first.ok() && result.differences.empty() && !has_changes;
    *options.findings = {
        .is_plain_and_same = is_same && std::all_of(rows.begin(), rows.end(), IsPlain),
        .are_limits_set = are_limits_set};
  }
  return first;
}

}  // namespace

Connected RestoreConnection(Core& core, const base::Context& context, record::Volume& row) {
  const record::Volume before = row;
  Connected connected;
  connected.status = core.volumes->Restore(context, row, connected.may_export);
  if (record::SameConnection(row, before)) return connected;
  auto make = [&] {
    std::optional<record::Volume> now = core.record->FindVolume(row.id);
    if (now && now->connection != before.connection) {
      volume::SharedNames names = volume::SharedNames::Parse(row.connection);
      names.Add(volume::SharedNames::Parse(now->connection));
      row.connection = names.ToText();
    }
    record::Change change;
    change.put_volumes.push_back(row);
    return change;
  };
  connected.status.Update(core.record->Update(make, Durability::kHost));
  return connected;
}

bool IsUnused(const Core& core, const std::string& handle) {
  const std::optional<record::Device> row = core.record->FindDevice(handle);
  if (!row || row->state != DeviceState::kReady || row->params.ByteSizeLong() != 0) return false;
  return core.record->VolumesOf(handle).empty() && !core.record->FindLimits(LimitsKeyOf(handle));
}

absl::Status RemoveUnusedDevice(Core& core, const std::string& handle) {
  if (!IsUnused(core, handle)) return absl::OkStatus();
  record::Change change;
  change.remove_devices.push_back(handle);
  return core.record->Write(std::move(change), Durability::kProcess);
}

absl::Status RestoreDevice(Core& core, const base::Context& context, const std::string& handle,
                           const RestoreOptions& options) {
  auto lock = core.locks.Acquire(WithinLockTime(context, options), {LockTable::Device(handle)});
  if (!lock.ok()) return lock.status();
  std::optional<record::Device> row = core.record->FindDevice(handle);
  if (!row) return absl::OkStatus();
  if (row->state != DeviceState::kReady) {
    return SettleDevice(core, context, handle, /*now=*/false).status();
  }
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *row);
  if (!manager.ok()) return manager.status();
  absl::Status settled = (*manager)->traits().needs_volume ? KeepVolumesOf(core, context, handle)
                                                           : SettleVolumesOf(core, context, handle);
  absl::Status restored = RestoreReady({.core = core,
                                        .context = context,
                                        .manager = **manager,
                                        .device = SpecOf(*row),
                                        .options = options},
                                       *row);
  settled.Update(restored);
  if ((*manager)->traits().names_devices) settled.Update(RemoveUnusedDevice(core, handle));
  return settled;
}

}  // namespace sma::core
