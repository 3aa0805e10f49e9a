#include <fmt/format.h>

#include <utility>

#include "agent/core/restore.h"
#include "agent/core/settle.h"
#include "agent/core/use_cases.h"
#include "agent/core/volume_steps.h"

namespace sma::core {

using record::DeviceState;
using record::Durability;
using record::VolumeState;

namespace {

// A volume that is attached already: makes sure that it is all there.
Outcome AttachAgain(Core& core, const base::Context& context, DeviceManager& manager,
                    const DeviceSpec& device, const VolumeRequest& request, record::Volume row) {
  if (IsIntact(core, context, manager, device, request, row)) return {};
  absl::Status status = ConnectAgain(core, context, request, row);
  if (!status.ok()) return status;
  const DeviceVolume volume = VolumeOf(row);
  if (manager.traits().names_devices) {
    return manager.AttachVolume(context, device, volume).outcome();
  }
  RestoreResult result = manager.Restore(
      context,
      {.device = device, .volumes = {&volume, 1}, .expose_incomplete = false, .recreate = false});
  // The device as a whole, with all its volumes, has to be restored first.
  if (result.is_device_missing) return Outcome::DeviceMissing(result.status);
  const RestoredVolume& restored = result.volumes.front();
  if (!restored.attachment.ok()) return restored.attachment.status();
  if (restored.attached_again) {
    status = ApplyLimits(core, context, manager, device, volume);
    if (!status.ok()) return status;
  }
  if (*restored.attachment == row.attachment) return {};
  record::Change change;
  change.put_volumes.push_back(row);
  change.put_volumes.front().attachment = *restored.attachment;
  return core.record->Write(std::move(change), Durability::kProcess);
}

Outcome AttachOnce(Core& core, const base::Context& context, const std::string& handle,
                   const VolumeRequest& request) {
  auto locks = core.locks.Acquire(
      context, {LockTable::Device(handle, /*shared=*/true), LockTable::Volume(request.id)});
  if (!locks.ok()) return locks.status();
  std::optional<record::Device> device = core.record->FindDevice(handle);
  if (!device || device->state != DeviceState::kReady) return NoDevice(handle);
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *device);
  if (!manager.ok()) return manager.status();
  if ((*manager)->traits().needs_volume) {
    return absl::UnimplementedError(
        fmt::format("{}: its volume is given when it is created", handle));
  }
  std::optional<record::Volume> row = core.record->FindVolume(request.id);
  if (row && row->device_handle != handle) return IsElsewhere(*row);
  if (row && row->state == VolumeState::kAttached) {
    const jsonrpc::CallScope scope(ObjectsOf(handle, {*row}));
    return AttachAgain(core, context, **manager, SpecOf(*device), request, *std::move(row))
        .WithContext(handle);
  }
  absl::Status settled = SettleVolume(core, context, request.id, /*now=*/true);
  if (!settled.ok()) return settled;
  return AttachNew(core, context, **manager, SpecOf(*device), request);
}

// A handle that the record does not have may be one of a type that knows its devices itself: true
// where its device was added to the record.
absl::StatusOr<bool> AddUnknownDevice(Core& core, const base::Context& context,
                                      const std::string& handle) {
  if (core.record->FindDevice(handle)) return false;
  DeviceManager* manager = core.registry.ForHandle(handle);
  if (manager == nullptr || !manager->traits().names_devices) return false;
  auto lock = core.locks.Acquire(context, {LockTable::Device(handle)});
  if (!lock.ok()) return lock.status();
  if (core.record->FindDevice(handle)) return false;
  record::Change change;
  change.put_devices.push_back(
      NewDeviceRow(*manager, {.handle = handle, .params = {}}, DeviceState::kReady));
  absl::Status status = core.record->Write(std::move(change), Durability::kProcess);
  if (!status.ok()) return status;
  return true;
}

// Unless it has got volumes meanwhile.
void RemoveAddedDevice(Core& core, const base::Context& context, const std::string& handle) {
  auto lock = core.locks.Acquire(context, {LockTable::Device(handle)});
  if (!lock.ok() || !core.record->VolumesOf(handle).empty()) return;
  record::Change change;
  change.remove_devices.push_back(handle);
  core.record->Write(std::move(change), Durability::kProcess).IgnoreError();
}

}  // namespace

absl::StatusOr<AttachVolumeResponse> AttachVolume(Core& core, const base::Context& context,
                                                  const AttachVolumeRequest& request) {
  if (!request.has_volume()) return absl::InvalidArgumentError("volume: missing");
  absl::StatusOr<VolumeRequest> volume = core.volumes->Check(context, request.volume());
  if (!volume.ok()) return volume.status();
  const std::string& handle = request.device_handle();
  absl::StatusOr<bool> is_added = AddUnknownDevice(core, context, handle);
  if (!is_added.ok()) return is_added.status();

  Outcome outcome = AttachOnce(core, context, handle, *volume);
  if (outcome.is_device_missing()) {
    // The target has lost the device, and it was not yet its turn to be restored.
    RestoreDevice(core, context, handle, {.expose_incomplete = false}).IgnoreError();
    outcome = AttachOnce(core, context, handle, *volume);
  }
  if (!outcome.ok() && *is_added) RemoveAddedDevice(core, context, handle);
  if (!outcome.ok()) return outcome.status();
  return AttachVolumeResponse();
}

}  // namespace sma::core
