// SPDX-License-Identifier: Apache-2.0

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

// Handles a repeated request for an attached volume: restores what is missing.
Outcome RepeatAttach(Core& core, const base::Context& context, DeviceManager& manager,
                     const DeviceSpec& device, const VolumeRequest& request, record::Volume row) {
  if (IsIntact(core, context, manager, device, request, row)) return {};
  absl::Status status = RepeatConnect(core, context, request, row);
  if (!status.ok()) return status;
  const DeviceVolume volume = VolumeOf(row);
  if (manager.traits().names_devices) {
    Outcome outcome = manager.AttachVolume(context, device, volume).outcome();
    return outcome.ok() ? FinishRepeat(core, row, row.attachment) : outcome;
  }
  RestoreResult result = manager.Restore(
      context,
      {.device = device, .volumes = {&volume, 1}, .expose_incomplete = false, .recreate = false});
  // The caller must first restore the device with all its volumes.
  if (result.is_device_missing) return Outcome::DeviceMissing(result.status);
  const RestoredVolume& restored = result.volumes.front();
  if (!restored.attachment.ok()) {
    return WhyNotExported(core, context, row, restored.attachment.status());
  }
  if (restored.attached_again) {
    status = ApplyLimits(core, context, manager, device, volume);
    if (!status.ok()) return status;
  }
  return FinishRepeat(core, row, *restored.attachment);
}

// Returns the row of a device that is ready; nullopt if there is none. A handle that is not in the
// record may belong to a type that knows its devices itself: such a device is in the record as long
// as it has volumes (RemoveUnusedDevice), and is added here. The caller holds the device's lock.
absl::StatusOr<std::optional<record::Device>> FindOrAddDevice(Core& core,
                                                              const std::string& handle) {
  std::optional<record::Device> row = core.record->FindDevice(handle);
  if (row && row->state == DeviceState::kReady) return row;
  DeviceManager* manager = row ? nullptr : core.registry.ForHandle(handle);
  if (manager == nullptr || !manager->traits().names_devices) return std::nullopt;
  row = NewDeviceRow(*manager, {.handle = handle, .params = {}}, DeviceState::kReady);
  // Another call that also shares the lock may have added it.
  auto make = [&] {
    record::Change change;
    if (!core.record->FindDevice(handle)) change.put_devices.push_back(*row);
    return change;
  };
  absl::Status status = core.record->Update(make, Durability::kProcess);
  if (!status.ok()) return status;
  return row;
}

Outcome AttachOnce(Core& core, const base::Context& context, const std::string& handle,
                   const VolumeRequest& request) {
  auto locks = core.locks.Acquire(
      context, {LockTable::Device(handle, /*shared=*/true), LockTable::Volume(request.id)});
  if (!locks.ok()) return locks.status();
  absl::StatusOr<std::optional<record::Device>> found = FindOrAddDevice(core, handle);
  if (!found.ok()) return found.status();
  const std::optional<record::Device>& device = *found;
  if (!device) return NoDeviceError(handle);
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *device);
  if (!manager.ok()) return manager.status();
  if ((*manager)->traits().needs_volume) {
    return absl::UnimplementedError(
        fmt::format("{}: the volume of this device is set by CreateDevice", handle));
  }
  std::optional<record::Volume> row = core.record->FindVolume(request.id);
  if (row && row->device_handle != handle) return AttachedElsewhereError(*row);
  if (row && row->state != VolumeState::kAttached) {
    absl::Status settled = SettleVolume(core, context, request.id, /*now=*/true).status();
    if (!settled.ok()) return settled;
    row = core.record->FindVolume(request.id);
  }
  if (row && row->state == VolumeState::kAttached) {
    const jsonrpc::CallScope scope(ObjectsOf(handle, {*row}));
    const Outcome outcome =
        RepeatAttach(core, context, **manager, SpecOf(*device), request, *std::move(row));
    WakeIfDifferent(core, handle, outcome.status());
    return outcome.WithContext(handle);
  }
  Outcome outcome = AttachNew(core, context, **manager, SpecOf(*device), request);
  // ALREADY_EXISTS may mean that the device differs from the record. A volume that was not found
  // says nothing about the device.
  if (absl::IsAlreadyExists(outcome.status())) core.wake_background(handle);
  return outcome;
}

// Removes a device that FindOrAddDevice added; the background does so if another call uses it now.
void RemoveIfUnused(Core& core, const std::string& handle) {
  if (!IsUnused(core, handle)) return;
  const base::Context at_once = base::Context::WithTimeout(std::chrono::nanoseconds(0));
  auto lock = core.locks.Acquire(at_once, {LockTable::Device(handle)});
  if (!lock.ok() || !RemoveUnusedDevice(core, handle).ok()) core.wake_background(handle);
}

}  // namespace

absl::StatusOr<AttachVolumeResponse> AttachVolume(Core& core, const base::Context& context,
                                                  const AttachVolumeRequest& request) {
  if (!request.has_volume()) return absl::InvalidArgumentError("volume: missing");
  absl::StatusOr<VolumeRequest> volume = core.volumes->Check(context, request.volume());
  if (!volume.ok()) return volume.status();
  const std::string& handle = request.device_handle();
  Outcome outcome = AttachOnce(core, context, handle, *volume);
  if (outcome.is_device_missing()) {
    // The device no longer exists on the target, and the background thread has not restored it yet.
    RestoreDevice(core, context, handle, {.expose_incomplete = false}).IgnoreError();
    outcome = AttachOnce(core, context, handle, *volume);
  }
  if (outcome.ok()) return AttachVolumeResponse();
  RemoveIfUnused(core, handle);
  return outcome.status();
}

}  // namespace sma::core
