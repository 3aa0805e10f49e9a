// SPDX-License-Identifier: Apache-2.0

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "agent/core/operation.h"
#include "agent/core/settle.h"
#include "agent/core/use_cases.h"
#include "agent/core/volume_steps.h"

namespace sma::core {

using record::VolumeState;

namespace {

absl::Status DetachAttached(Core& core, const base::Context& context, const record::Volume& row) {
  std::optional<record::Device> device = core.record->FindDevice(row.device_handle);
  if (!device) return NoDeviceError(row.device_handle);
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *device);
  if (!manager.ok()) return manager.status();
  Operation operation(core, context, "volume " + row.id.ToString());
  operation.Detach(row);
  if ((*manager)->traits().names_devices) operation.CanBeRefused();
  if (absl::Status status = operation.Begin(); !status.ok()) return status;

  bool may_come_back = false;
  Outcome outcome = RemoveFromDevice(core, context, {row}, [&](const base::Context& limited) {
    may_come_back = operation.MayActLate();
    return (*manager)->DetachVolume(limited, SpecOf(*device), VolumeOf(row));
  });
  if (outcome.is_under_way()) {
    spdlog::info("volume {}: detach continues in the background: {}", row.id.ToString(),
                 outcome.message());
    outcome = operation.Abandon(std::move(outcome));
    return outcome.is_under_way() ? absl::OkStatus() : outcome.status();
  }
  if (outcome.was_gone()) core.wake_background(row.device_handle);
  if (!outcome.ok()) return operation.Abandon(std::move(outcome)).status();
  absl::Status released = ReleaseAll(core, context, **manager, {row});
  if (!released.ok()) return operation.Abandon(Outcome::Unknown(std::move(released))).status();
  return operation.CommitRemoval(may_come_back);
}

// A removal that is under way is a success: the agent finishes it without another call.
absl::Status Answer(const Outcome& outcome) {
  return outcome.is_under_way() ? absl::OkStatus() : outcome.status();
}

absl::Status DetachLocked(Core& core, const base::Context& context, const std::string& handle,
                          const base::Uuid& id) {
  std::optional<record::Device> device = core.record->FindDevice(handle);
  absl::StatusOr<DeviceManager*> manager =
      device ? ManagerOf(core, *device) : core.registry.ForHandle(handle);
  if (!manager.ok()) return manager.status();
  if (*manager == nullptr) return NoDeviceError(handle);
  if ((*manager)->traits().needs_volume) {
    return absl::UnimplementedError(fmt::format(
        "{}: the volume of this device can only be detached with DeleteDevice", handle));
  }
  auto locks = core.locks.Acquire(
      context, {LockTable::Device(handle, /*shared=*/true), LockTable::Volume(id)});
  if (!locks.ok()) return locks.status();

  std::optional<record::Volume> row = core.record->FindVolume(id);
  absl::Status status;
  if (row && row->device_handle == handle && row->state != VolumeState::kAttached) {
    Outcome settled = SettleVolume(core, context, id, /*now=*/true);
    if (!settled.ok()) return Answer(settled);
    row = core.record->FindVolume(id);
    if (!row) return absl::OkStatus();
  }
  if (row && row->device_handle == handle) {
    status = DetachAttached(core, context, *row);
  } else if ((*manager)->traits().names_devices) {
    const DeviceSpec spec = device ? SpecOf(*device) : DeviceSpec{.handle = handle, .params = {}};
    status =
        WithContext(handle, (*manager)->DetachVolume(context, spec, UnknownVolume(id)).status());
  }
  return status;
}

}  // namespace

absl::StatusOr<DetachVolumeResponse> DetachVolume(Core& core, const base::Context& context,
                                                  const DetachVolumeRequest& request) {
  absl::StatusOr<base::Uuid> id = CheckVolumeId(request.volume_id());
  if (!id.ok()) return id.status();
  const std::string& handle = request.device_handle();
  const absl::Status status = DetachLocked(core, context, handle, *id);
  if (status.ok()) return DetachVolumeResponse();
  const std::optional<record::Volume> row = core.record->FindVolume(*id);
  const bool is_pending =
      row && row->device_handle == handle && row->state == VolumeState::kDetaching;
  return is_pending ? WithPendingRemoval(status) : status;
}

}  // namespace sma::core
