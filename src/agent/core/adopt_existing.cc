// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <utility>

#include "agent/core/adoption.h"
#include "agent/core/creation.h"
#include "agent/core/operation.h"
#include "agent/core/volume_steps.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"

namespace sma::core {

using record::DeviceState;
using record::Durability;
using record::VolumeState;

namespace {

// Checks that a device found on the target exports the volume's bdev as `row` says, that is,
// through its layer if the volume is encrypted.
absl::Status CheckExported(Core& core, const base::Context& context, const record::Volume& row,
                           const std::string& exported) {
  auto bdev = spdk::FindBdev(core.target, context, row.bdev_name, std::chrono::nanoseconds(0));
  if (!bdev.ok()) return bdev.status();
  if (*bdev && (*bdev)->name == exported) return absl::OkStatus();
  return absl::AlreadyExistsError(
      fmt::format("volume {} is already exported, through bdev {}", row.id.ToString(), exported));
}

// Adds the missing parts of an adopted device. If they cannot be added, the device is not adopted;
// it stays adopted if it is unknown whether they were.
absl::Status Complete(const Creation& creation, const std::vector<record::Volume>& rows) {
  auto& [core, context, manager, device, request] = creation;
  const std::vector<DeviceVolume> volumes = VolumesOf(rows);
  const absl::Status added =
      manager.Restore(context, {.device = device, .volumes = volumes}).status;
  if (added.ok()) return added;
  const RestoreResult left =
      manager.Restore(spdk::UndoContext(), {.device = device, .volumes = volumes, .repair = false});
  if (left.status.ok() || left.differences.empty()) return added;
  record::Change undo;
  undo.remove_devices.push_back(device.handle);
  for (const record::Volume& row : rows) AddRemoval(core, row, undo);
  core.record->Write(std::move(undo), Durability::kHost).IgnoreError();
  return WithContext(device.handle, added);
}

// Returns the row of the requested volume, which an existing device exports.
absl::StatusOr<record::Volume> AdoptRequested(const Creation& creation,
                                              const DeviceVolume& attached) {
  auto& [core, context, manager, device, request] = creation;
  absl::StatusOr<record::Volume> row = core.volumes->NewRow(*request, device.handle);
  if (!row.ok()) return row.status();
  row->attachment = attached.attachment;
  absl::Status same = core.volumes->VerifyAndAdopt(context, *request, *row, attached.bdev_name);
  if (same.ok()) same = CheckExported(core, context, *row, attached.bdev_name);
  if (!same.ok()) return same;
  return InState(*std::move(row), VolumeState::kAttached);
}

// Returns the rows of the volumes of an existing device that were not requested, which are then
// attached volumes like all others: listed, restored, and a reason to refuse DeleteDevice.
absl::StatusOr<std::vector<record::Volume>> AdoptOthers(const Creation& creation,
                                                        std::vector<DeviceVolume> others) {
  auto& [core, context, manager, device, request] = creation;
  if (others.empty()) return std::vector<record::Volume>();
  AdoptionCandidate candidate;
  candidate.device = device;
  candidate.volumes = std::move(others);
  absl::StatusOr<record::Change> rows = RowsToAdopt(core, context, manager, candidate);
  if (!rows.ok()) return rows.status();
  for (const record::Volume& row : rows->put_volumes) core.volumes->NoteAdopted(row);
  return std::move(rows->put_volumes);
}

// Acquires the locks of volumes after that of the requested one, against the order of locks, and
// therefore waits only briefly: nothing else is yet known to use these volumes.
absl::StatusOr<LockTable::Held> LockOthers(const Creation& creation,
                                           const std::vector<DeviceVolume>& others) {
  std::vector<LockTable::Key> keys;
  for (const DeviceVolume& volume : others) keys.push_back(LockTable::Volume(volume.id));
  const base::Context brief =
      creation.context.Child(std::chrono::steady_clock::now() + std::chrono::seconds(1));
  absl::StatusOr<LockTable::Held> held = creation.core.locks.Acquire(brief, std::move(keys));
  if (held.ok() || creation.context.done()) return held;
  return absl::UnavailableError("other calls use the volumes that the device has on the target");
}

// Returns the rows of a device that exists on the target as requested, and of its volumes.
absl::StatusOr<record::Change> RowsOfExisting(const Creation& creation,
                                              const ExistingDevice& existing,
                                              std::vector<DeviceVolume> others) {
  auto& [core, context, manager, device, request] = creation;
  record::Change change;
  change.put_devices = {NewDeviceRow(manager, device, DeviceState::kReady)};
  change.put_devices.front().mark = existing.mark;
  absl::StatusOr<std::vector<record::Volume>> rows = AdoptOthers(creation, std::move(others));
  if (!rows.ok()) return rows.status();
  change.put_volumes = *std::move(rows);
  for (const DeviceVolume& attached : existing.volumes) {
    if (request == nullptr || attached.id != request->id) continue;
    absl::StatusOr<record::Volume> row = AdoptRequested(creation, attached);
    if (!row.ok()) return row.status();
    change.put_volumes.push_back(*std::move(row));
  }
  return change;
}

}  // namespace

absl::Status AdoptExisting(const Creation& creation, const ExistingDevice& existing) {
  auto& [core, context, manager, device, request] = creation;
  std::vector<DeviceVolume> others = existing.volumes;
  if (request != nullptr) {
    std::erase_if(others, [&](const DeviceVolume& volume) { return volume.id == request->id; });
  }
  const bool has_it = others.size() < existing.volumes.size();
  if (request != nullptr && !has_it && !others.empty()) return OtherVolumesError(device.handle);
  auto locks = LockOthers(creation, others);
  if (!locks.ok()) return WithContext(device.handle, locks.status());
  absl::StatusOr<record::Change> change = RowsOfExisting(creation, existing, std::move(others));
  if (!change.ok()) return WithContext(device.handle, change.status());
  const std::vector<record::Volume> adopted = change->put_volumes;
  absl::Status status = core.record->Write(*std::move(change), Durability::kHost);
  if (!status.ok()) return status;
  spdlog::info("{}: adopted with {} volumes", device.handle, adopted.size());
  if (!existing.is_complete) status = Complete(creation, adopted);
  if (!status.ok()) return status;
  if (request == nullptr || has_it) return status;
  status = AttachNew(core, context, manager, device, *request).status();
  if (status.ok() || core.record->FindVolume(request->id)) return status;
  record::Change undo;
  undo.remove_devices.push_back(device.handle);
  core.record->Write(std::move(undo), Durability::kHost).IgnoreError();
  return status;
}

}  // namespace sma::core
