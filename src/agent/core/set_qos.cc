// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>

#include <utility>

#include "agent/core/operation.h"
#include "agent/core/qos_limits.h"
#include "agent/core/use_cases.h"
#include "agent/spdk/bdev.h"

namespace sma::core {

using record::VolumeState;

namespace {

// Sets limits of `volume`, or of the device itself if `volume` is null.
absl::Status SetLimits(Core& core, const base::Context& context, DeviceManager& manager,
                       const DeviceSpec& device, const DeviceVolume* volume,
                       const QosLimit& maximum) {
  const base::Uuid id = volume != nullptr ? volume->id : LimitsKeyOf(device.handle);
  const std::optional<QosLimit> before = core.record->FindLimits(id);
  const QosLimit inverse = Inverse(before, maximum);
  Operation operation(core, context, device.handle);
  // If the agent dies during the operation, its next run sets the limits from the record. Therefore
  // the intent holds a value for each limit that is about to change.
  operation.Limit(device.handle, id, before, Merged(before, inverse));
  if (absl::Status status = operation.Begin(); !status.ok()) return status;

  Outcome outcome = manager.SetQos(context, device, volume, maximum);
  if (outcome.ok() || outcome.is_unknown()) {
    operation.OnUndo(
        [&](const base::Context& undo) { return manager.SetQos(undo, device, volume, inverse); });
  }
  if (!outcome.ok()) {
    WakeIfDifferent(core, device.handle, outcome.status());
    return operation.Abandon(std::move(outcome)).status();
  }
  record::Change done;
  if (const QosLimit limits = Merged(before, maximum); HasLimits(limits)) {
    done.put_limits.push_back({.volume_id = id, .limits = limits});
  } else {
    done.remove_limits.push_back(id);
  }
  return operation.Commit(std::move(done)).status();
}

// Sets limits of a device whose type chooses handles itself. Such a device need not be in the
// record, and the type decides what can be limited.
absl::Status SetQosOfNamed(Core& core, const base::Context& context, DeviceManager& manager,
                           const DeviceSpec& device, const SetQosRequest& request) {
  base::Uuid id = LimitsKeyOf(device.handle);
  if (!request.volume_id().empty()) {
    absl::StatusOr<base::Uuid> checked = CheckVolumeId(request.volume_id());
    if (!checked.ok()) return checked.status();
    id = *checked;
  }
  if (!request.has_maximum()) return absl::OkStatus();
  auto locks = core.locks.Acquire(
      context, {LockTable::Device(device.handle, /*shared=*/true), LockTable::Volume(id)});
  if (!locks.ok()) return locks.status();
  std::optional<DeviceVolume> volume;
  // Limits of an object that is not in the record cannot be restored later, but the type is called
  // nevertheless.
  bool is_known = core.record->FindDevice(device.handle).has_value();
  if (!request.volume_id().empty()) {
    std::optional<record::Volume> row = core.record->FindVolume(id);
    is_known = row && row->device_handle == device.handle && row->state == VolumeState::kAttached;
    volume = is_known ? VolumeOf(*row) : UnknownVolume(id);
  }
  const DeviceVolume* of_call = volume ? &*volume : nullptr;
  if (is_known) return SetLimits(core, context, manager, device, of_call, request.maximum());
  return WithContext(device.handle,
                     manager.SetQos(context, device, of_call, request.maximum()).status());
}

absl::StatusOr<record::Volume> FindAttached(Core& core, const base::Context& context,
                                            const std::string& handle, const base::Uuid& id) {
  std::optional<record::Volume> row = core.record->FindVolume(id);
  const bool attached = row && row->state == VolumeState::kAttached;
  if (attached && row->device_handle == handle) return *row;
  if (!attached) {
    absl::StatusOr<std::optional<spdk::Bdev>> bdev =
        spdk::FindBdev(core.target, context, id.ToString(), std::chrono::nanoseconds(0));
    if (!bdev.ok()) return bdev.status();
    if (!*bdev) {
      return absl::NotFoundError(fmt::format("volume_id: there is no volume {}", id.ToString()));
    }
  }
  return absl::InvalidArgumentError(
      fmt::format("volume_id: volume {} is not attached to {}", id.ToString(), handle));
}

// Returns the volume to which the request applies. If it names none, and the limits of the device
// are those of its only volume, returns that volume.
absl::StatusOr<base::Uuid> VolumeOfRequest(const Core& core, const DeviceManager& manager,
                                           const GetQosCapabilitiesResponse& capabilities,
                                           const SetQosRequest& request) {
  if (!request.volume_id().empty()) return CheckVolumeId(request.volume_id());
  if (!capabilities.has_max_device_caps()) {
    return absl::InvalidArgumentError(
        fmt::format("volume_id: missing; devices of type {} support limits only for their volumes",
                    manager.name()));
  }
  const std::vector<record::Volume> volumes = core.record->VolumesOf(request.device_handle());
  return volumes.size() == 1 ? volumes.front().id : base::Uuid();
}

absl::Status SetQosOfVolume(Core& core, const base::Context& context, DeviceManager& manager,
                            const DeviceSpec& device, const SetQosRequest& request) {
  auto capabilities = manager.GetQosCapabilities(context);
  if (!capabilities.ok()) return capabilities.status();
  absl::StatusOr<base::Uuid> id = VolumeOfRequest(core, manager, *capabilities, request);
  if (!id.ok()) return id.status();
  const Capabilities& supported = request.volume_id().empty() ? capabilities->max_device_caps()
                                                              : capabilities->max_volume_caps();
  absl::Status status = CheckSupported(request.maximum(), supported);
  if (!status.ok()) return status;
  auto locks = core.locks.Acquire(
      context, {LockTable::Device(device.handle, /*shared=*/true), LockTable::Volume(*id)});
  if (!locks.ok()) return locks.status();
  absl::StatusOr<record::Volume> row = FindAttached(core, context, device.handle, *id);
  if (!row.ok()) return row.status();
  if (!request.has_maximum() || ChangesNothing(request.maximum(), supported)) {
    return absl::OkStatus();
  }
  const DeviceVolume volume = VolumeOf(*row);
  return SetLimits(core, context, manager, device, &volume, request.maximum());
}

}  // namespace

absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
    Core& core, const base::Context& context, const GetQosCapabilitiesRequest& request) {
  absl::StatusOr<DeviceManager*> manager = core.registry.ForType(request.device_type());
  if (!manager.ok()) return manager.status();
  return (*manager)->GetQosCapabilities(context);
}

absl::StatusOr<SetQosResponse> SetQos(Core& core, const base::Context& context,
                                      const SetQosRequest& request) {
  const std::string& handle = request.device_handle();
  std::optional<record::Device> device = core.record->FindDevice(handle);
  absl::StatusOr<DeviceManager*> manager =
      device ? ManagerOf(core, *device) : core.registry.ForHandle(handle);
  if (!manager.ok()) return manager.status();
  const bool is_named = *manager != nullptr && (*manager)->traits().names_devices;
  if (!device && !is_named) return NoDeviceError(handle);
  const DeviceSpec spec = device ? SpecOf(*device) : DeviceSpec{.handle = handle, .params = {}};
  absl::Status status = is_named ? SetQosOfNamed(core, context, **manager, spec, request)
                                 : SetQosOfVolume(core, context, **manager, spec, request);
  if (!status.ok()) return status;
  return SetQosResponse();
}

}  // namespace sma::core
