#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "agent/core/operation.h"
#include "agent/core/settle.h"
#include "agent/core/use_cases.h"
#include "agent/core/volume_steps.h"

namespace sma::core {

using record::DeviceState;
using record::Durability;
using record::VolumeState;

namespace {

/// What a call asks for, and what it runs with. Under the locks of the device and the volume.
struct Creation {
  Core& core;
  const base::Context& context;
  DeviceManager& manager;
  DeviceSpec device;
  const VolumeRequest* volume;  // null: none
};

absl::Status HasOtherVolumes(const std::string& handle) {
  return absl::AlreadyExistsError(fmt::format("{}: exists with other volumes", handle));
}

// A device of ours that is asked for again: makes sure that it is all there, and attaches the
// volume where that is new.
absl::Status RepeatCreate(const Creation& creation, const record::Device& row) {
  auto& [core, context, manager, asked, request] = creation;
  const DeviceSpec device = SpecOf(row);
  if (row.params.SerializeAsString() != asked.params.SerializeAsString()) {
    return absl::AlreadyExistsError(fmt::format("{}: exists with other parameters", device.handle));
  }
  std::vector<record::Volume> volumes = core.record->VolumesOf(device.handle);
  const bool has_it = request != nullptr && core.record->FindVolume(request->id).has_value();
  if (request != nullptr && !has_it && !volumes.empty()) return HasOtherVolumes(device.handle);
  std::erase_if(volumes, [](const record::Volume& v) { return v.state != VolumeState::kAttached; });
  const jsonrpc::CallScope scope(ObjectsOf(device.handle, volumes));
  if (has_it && volumes.size() == 1 &&
      IsIntact(core, context, manager, device, *request, volumes.front())) {
    return absl::OkStatus();
  }
  for (record::Volume& known : volumes) {
    if (request == nullptr || known.id != request->id) continue;
    absl::Status status = ConnectAgain(core, context, *request, known);
    if (!status.ok()) return WithContext(device.handle, status);
  }
  const std::vector<DeviceVolume> attached = VolumesOf(volumes);
  RestoreResult result =
      manager.Restore(context, {.device = device, .volumes = attached, .expose_incomplete = false});
  if (!result.status.ok()) return WithContext(device.handle, result.status);
  for (size_t i = 0; i < attached.size(); ++i) {
    absl::Status status = result.volumes[i].attachment.status();
    if (status.ok() && result.volumes[i].attached_again) {
      status = ApplyLimits(core, context, manager, device, attached[i]);
    }
    const bool asked_for = request != nullptr && attached[i].id == request->id;
    if (asked_for && !status.ok()) return WithContext(device.handle, status);
  }
  if (request == nullptr || has_it) return absl::OkStatus();
  return AttachNew(core, context, manager, device, *request).status();
}

// Whether the bdev that a device found on the target exports is the volume's, with the layer that
// encrypts it or without, as `row` says.
absl::Status CheckExported(Core& core, const base::Context& context, const record::Volume& row,
                           const std::string& exported) {
  auto bdev = spdk::FindBdev(core.target, context, row.bdev_name, std::chrono::nanoseconds(0));
  if (!bdev.ok()) return bdev.status();
  if (*bdev && (*bdev)->name == exported) return absl::OkStatus();
  return absl::AlreadyExistsError(
      fmt::format("volume {} is exported already, through bdev {}", row.id.ToString(), exported));
}

// A device that is on the target, equal to what is asked for, though the record does not have it.
absl::Status Adopt(const Creation& creation, const ExistingDevice& existing) {
  auto& [core, context, manager, device, request] = creation;
  record::Change change;
  change.put_devices = {NewDeviceRow(manager, device, DeviceState::kReady)};
  change.put_devices.front().mark = existing.mark;
  bool has_it = false;
  for (const DeviceVolume& attached : existing.volumes) {
    if (request == nullptr || attached.id != request->id) continue;
    has_it = true;
    absl::StatusOr<record::Volume> row = core.volumes->NewRow(*request, device.handle);
    if (!row.ok()) return row.status();
    row->attachment = attached.attachment;
    absl::Status same = core.volumes->TakeOver(context, *request, *row, attached.bdev_name);
    if (same.ok()) same = CheckExported(core, context, *row, attached.bdev_name);
    if (!same.ok()) return WithContext(device.handle, same);
    change.put_volumes.push_back(InState(*std::move(row), VolumeState::kAttached));
  }
  if (request != nullptr && !has_it && !existing.volumes.empty()) {
    return HasOtherVolumes(device.handle);
  }
  absl::Status status = core.record->Write(std::move(change), Durability::kHost);
  if (!status.ok()) return status;
  spdlog::info("{}: adopted", device.handle);
  if (request == nullptr || has_it) return status;
  status = AttachNew(core, context, manager, device, *request).status();
  if (status.ok() || core.record->FindVolume(request->id)) return status;
  record::Change undo;
  undo.remove_devices.push_back(device.handle);
  core.record->Write(std::move(undo), Durability::kHost).IgnoreError();
  return status;
}

/// The volume of a device that is being created, where there is one.
struct VolumeOfNew {
  std::optional<record::Volume> row;
  bool is_new = false;  // false: it is attached already, to a device that names itself
};

absl::StatusOr<VolumeOfNew> FindOrPlanVolume(const Creation& creation, const std::string& handle) {
  auto& [core, context, manager, device, request] = creation;
  VolumeOfNew volume;
  if (request == nullptr) return volume;
  volume.row = core.record->FindVolume(request->id);
  if (volume.row) {
    absl::Status status = ConnectAgain(core, context, *request, *volume.row);
    if (!status.ok()) return WithContext(handle, status);
    return volume;
  }
  absl::StatusOr<record::Volume> planned = core.volumes->NewRow(*request, handle);
  if (!planned.ok()) return planned.status();
  volume.row = *std::move(planned);
  volume.is_new = true;
  return volume;
}

// Connects the volume, creates the device with it, and undoes that with `operation`.
OutcomeOr<CreatedDevice> CreateOnTarget(const Creation& creation, Operation& operation,
                                        const DeviceSpec& device, VolumeOfNew& volume) {
  auto& [core, context, manager, asked, request] = creation;
  CreatedDevice created;
  auto create = [&](const DeviceVolume* of_device) -> Outcome {
    OutcomeOr<CreatedDevice> made = manager.CreateDevice(context, device, of_device);
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
    operation.OnUndo([&manager, device](const base::Context& undo) {
      return manager.DeleteDevice(undo, device, {});
    });
  }
  return created;
}

// `row`: of a new device, or of one that names itself and is known already.
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
        .Abandon(absl::InternalError(fmt::format("{} gave {}, which is a device of {}",
                                                 manager.name(), created->handle, other->manager)))
        .status();
  }
  record::Change done;
  if (created->handle != row.handle) done.remove_devices = {row.handle};
  record::Device made = InState(std::move(row), DeviceState::kReady);
  made.handle = created->handle;
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
    if (row && row->device_handle != device.handle) return IsElsewhere(*row);
  }
  absl::Status settled = SettleDevice(core, context, device.handle, /*now=*/true).status();
  if (settled.ok() && request != nullptr) {
    settled = SettleVolume(core, context, request->id, /*now=*/true);
  }
  if (!settled.ok()) return settled;
  std::optional<record::Device> row = core.record->FindDevice(device.handle);
  if (manager.traits().names_devices) {
    return CreateNew(creation, row ? *row : NewDeviceRow(manager, device, DeviceState::kCreating));
  }
  absl::Status status;
  if (row) {
    status = RepeatCreate(creation, *row);
  } else {
    absl::StatusOr<std::optional<ExistingDevice>> existing = manager.FindExisting(context, device);
    if (!existing.ok()) return WithContext(device.handle, existing.status());
    if (!*existing) {
      absl::StatusOr<std::string> created =
          CreateNew(creation, NewDeviceRow(manager, device, DeviceState::kCreating));
      if (!absl::IsAlreadyExists(created.status())) return created;
      // It may have come since the target was last asked what it has.
      if (core.record->FindDevice(device.handle)) return created;
      existing = manager.FindExisting(context, device);
      if (!existing.ok() || !*existing) return created;
    }
    status = Adopt(creation, **existing);
  }
  if (!status.ok()) return status;
  return device.handle;
}

// The device of a type that names its devices itself that requests call as they do `device`.
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
        fmt::format("volume: a device of type {} needs one", (*manager)->name()));
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
  CreateDeviceResponse response;
  response.set_handle(*handle);
  return response;
}

}  // namespace sma::core
