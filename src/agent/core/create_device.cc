// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>

#include <utility>

#include "agent/core/creation.h"
#include "agent/core/operation.h"
#include "agent/core/settle.h"
#include "agent/core/use_cases.h"
#include "agent/core/volume_steps.h"

namespace sma::core {

using record::DeviceState;
using record::VolumeState;

namespace {

/// The volume of a device that is being created, if it has one.
struct VolumeOfNew {
  std::optional<record::Volume> row;
  bool is_new = false;  // false: it is already attached to a device that chose its handle
};

absl::StatusOr<VolumeOfNew> FindOrPlanVolume(const Creation& creation, const std::string& handle) {
  auto& [core, context, manager, device, request] = creation;
  VolumeOfNew volume;
  if (request == nullptr) return volume;
  volume.row = core.record->FindVolume(request->id);
  if (volume.row) {
    absl::Status status = RepeatConnect(core, context, *request, *volume.row);
    if (!status.ok()) return WithContext(handle, status);
    return volume;
  }
  absl::StatusOr<record::Volume> planned = core.volumes->NewRow(*request, handle);
  if (!planned.ok()) return planned.status();
  volume.row = *std::move(planned);
  volume.is_new = true;
  return volume;
}

// Connects the volume and creates the device with it; adds the rollback of both to `operation`.
OutcomeOr<CreatedDevice> CreateOnTarget(const Creation& creation, Operation& operation,
                                        const DeviceSpec& device, VolumeOfNew& volume) {
  auto& [core, context, manager, asked, request] = creation;
  CreatedDevice created;
  auto create = [&](const DeviceVolume* of_device) -> Outcome {
    OutcomeOr<CreatedDevice> made =
        creation.manager.CreateDevice(creation.context, device, of_device);
    if (made.ok()) created = *made;
    return made.outcome();
  };
  Outcome outcome;
  if (!volume.row) {
    outcome = create(nullptr);
  } else if (volume.is_new) {
    outcome = ConnectAndExport(core, context, operation, manager, *request, *volume.row,
                               [&](const DeviceVolume& to_export) { return create(&to_export); });
  } else {
    const DeviceVolume attached = VolumeOf(*volume.row);
    outcome = create(&attached);
  }
  if (!outcome.ok()) return outcome;
  if (!manager.traits().names_devices) {
    operation.OnUndo([&manager = creation.manager, device](const base::Context& undo) {
      return manager.DeleteDevice(undo, device, {});
    });
  }
  return created;
}

// Creates the device of `row`. It is a new device, or a known one of a type that chooses handles
// itself.
absl::StatusOr<std::string> CreateNew(const Creation& creation, record::Device row) {
  auto& [core, context, manager, asked, request] = creation;
  row.params = asked.params;
  absl::StatusOr<VolumeOfNew> volume = FindOrPlanVolume(creation, row.handle);
  if (!volume.ok()) return volume.status();
  const bool names_devices = manager.traits().names_devices;
  Operation operation(core, context, names_devices ? std::string(manager.name()) : row.handle);
  if (row.state != DeviceState::kReady) operation.Create(row);
  if (volume->is_new) operation.Attach(*volume->row);
  if (absl::Status status = operation.Begin(); !status.ok()) return status;

  OutcomeOr<CreatedDevice> created = CreateOnTarget(creation, operation, SpecOf(row), *volume);
  if (!created.ok()) return operation.Abandon(created.outcome()).status();
  std::optional<record::Device> other = core.record->FindDevice(created->handle);
  if (other && other->manager != manager.name()) {
    return operation
        .Abandon(absl::InternalError(
            fmt::format("{} returned handle {}, which belongs to a device of {}", manager.name(),
                        created->handle, other->manager)))
        .status();
  }
  record::Change done;
  if (created->handle != row.handle) done.remove_devices = {row.handle};
  record::Device made = InState(std::move(row), DeviceState::kReady);
  made.handle = created->handle;
  if (!created->place.empty()) made.place = created->place;
  done.put_devices = {made};
  if (volume->is_new) {
    record::Volume added = InState(*std::move(volume->row), VolumeState::kAttached);
    added.device_handle = made.handle;
    added.attachment = created->attachment;
    done.put_volumes = {added};
    AddLimits(core, added, done);
    absl::Status status = ApplyLimits(core, context, manager, SpecOf(made), VolumeOf(added));
    if (!status.ok()) return operation.Abandon(std::move(status)).status();
  }
  if (Outcome outcome = operation.Commit(std::move(done)); !outcome.ok()) return outcome.status();
  return made.handle;
}

absl::StatusOr<std::string> CreateLocked(const Creation& creation) {
  auto& [core, context, manager, device, request] = creation;
  if (request != nullptr) {
    std::optional<record::Volume> row = core.record->FindVolume(request->id);
    if (row && row->device_handle != device.handle) return AttachedElsewhereError(*row);
  }
  absl::Status settled = SettleDevice(core, context, device.handle, /*now=*/true).status();
  if (settled.ok() && request != nullptr) {
    settled = SettleVolume(core, context, request->id, /*now=*/true).status();
  }
  if (!settled.ok()) return settled;
  std::optional<record::Device> row = core.record->FindDevice(device.handle);
  if (manager.traits().names_devices) {
    return CreateNew(creation, row ? *row : NewDeviceRow(manager, device, DeviceState::kCreating));
  }
  absl::Status status;
  if (row) {
    status = RepeatCreate(creation, *row);
    WakeIfDifferent(core, device.handle, status);
  } else {
    absl::StatusOr<std::optional<ExistingDevice>> existing = manager.FindExisting(context, device);
    if (!existing.ok()) return WithContext(device.handle, existing.status());
    if (!*existing) {
      absl::StatusOr<std::string> created =
          CreateNew(creation, NewDeviceRow(manager, device, DeviceState::kCreating));
      if (!absl::IsAlreadyExists(created.status())) return created;
      // The device may have been created after the call of FindExisting.
      if (core.record->FindDevice(device.handle)) return created;
      existing = manager.FindExisting(context, device);
      if (!existing.ok() || !*existing) return created;
    }
    status = AdoptExisting(creation, **existing);
  }
  if (!status.ok()) return status;
  return device.handle;
}

// For a type that chooses handles itself: returns the recorded device whose parameters lead to the
// same description as those of `device`.
std::optional<record::Device> FindNamed(const Core& core, const DeviceManager& manager,
                                        const DeviceSpec& device) {
  if (!manager.traits().names_devices) return std::nullopt;
  for (record::Device& row : core.record->Devices()) {
    if (row.manager != manager.name() || row.state != DeviceState::kReady) continue;
    absl::StatusOr<DeviceSpec> known = manager.Describe(row.params);
    if (known.ok() && known->handle == device.handle) return std::move(row);
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<CreateDeviceResponse> CreateDevice(Core& core, const base::Context& context,
                                                  const CreateDeviceRequest& request) {
  absl::StatusOr<DeviceManager*> manager = core.registry.ForRequest(request);
  if (!manager.ok()) return manager.status();
  absl::StatusOr<DeviceSpec> device = (*manager)->Describe(request);
  if (!device.ok()) return device.status();
  std::optional<VolumeRequest> volume;
  if (request.has_volume()) {
    absl::StatusOr<VolumeRequest> checked = core.volumes->Check(context, request.volume());
    if (!checked.ok()) return checked.status();
    volume = *std::move(checked);
  } else if ((*manager)->traits().needs_volume) {
    return absl::InvalidArgumentError(
        fmt::format("volume: missing, but required for devices of type {}", (*manager)->name()));
  }

  CreateDeviceResponse response;
  if (ExistsAsRequested(core, context, **manager, *device, volume ? &*volume : nullptr)) {
    response.set_handle(device->handle);
    return response;
  }
  auto lock = core.locks.Acquire(context, {LockTable::Device(device->handle)});
  if (!lock.ok()) return lock.status();
  absl::StatusOr<LockTable::Held> named_lock{LockTable::Held()};
  if (std::optional<record::Device> named = FindNamed(core, **manager, *device)) {
    named_lock = core.locks.Acquire(context, {LockTable::Device(named->handle)});
    if (!named_lock.ok()) return named_lock.status();
    device->handle = named->handle;
  }
  absl::StatusOr<LockTable::Held> volume_lock{LockTable::Held()};
  if (volume) volume_lock = core.locks.Acquire(context, {LockTable::Volume(volume->id)});
  if (!volume_lock.ok()) return volume_lock.status();
  absl::StatusOr<std::string> handle = CreateLocked({.core = core,
                                                     .context = context,
                                                     .manager = **manager,
                                                     .device = *std::move(device),
                                                     .volume = volume ? &*volume : nullptr});
  if (!handle.ok()) return handle.status();
  response.set_handle(*handle);
  return response;
}

}  // namespace sma::core
