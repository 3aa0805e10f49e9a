#include <fmt/format.h>

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
  if (!device) return NoDevice(row.device_handle);
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *device);
  if (!manager.ok()) return manager.status();
  Operation operation(core, context, "volume " + row.id.ToString());
  operation.Detach(row);
  if ((*manager)->traits().names_devices) operation.CanBeRefused();
  if (absl::Status status = operation.Begin(); !status.ok()) return status;

  auto guard = core.volumes->BeginDetach(context, {row});
  const bool may_come_back = operation.MayActLate();
  Outcome outcome = (*manager)->DetachVolume(context, SpecOf(*device), VolumeOf(row));
  guard.reset();
  if (!outcome.ok()) return operation.Abandon(std::move(outcome)).status();
  absl::Status released = ReleaseAll(core, context, **manager, {row});
  if (!released.ok()) return operation.Abandon(Outcome::Unknown(std::move(released))).status();
  return operation.CommitRemoval(may_come_back);
}

}  // namespace

absl::StatusOr<DetachVolumeResponse> DetachVolume(Core& core, const base::Context& context,
                                                  const DetachVolumeRequest& request) {
  absl::StatusOr<base::Uuid> id = CheckVolumeId(request.volume_id());
  if (!id.ok()) return id.status();
  const std::string& handle = request.device_handle();
  std::optional<record::Device> device = core.record->FindDevice(handle);
  absl::StatusOr<DeviceManager*> manager =
      device ? ManagerOf(core, *device) : core.registry.ForHandle(handle);
  if (!manager.ok()) return manager.status();
  if (*manager == nullptr) return NoDevice(handle);
  if ((*manager)->traits().needs_volume) {
    return absl::UnimplementedError(fmt::format("{}: its volume goes when it is deleted", handle));
  }
  auto locks = core.locks.Acquire(
      context, {LockTable::Device(handle, /*shared=*/true), LockTable::Volume(*id)});
  if (!locks.ok()) return locks.status();

  std::optional<record::Volume> row = core.record->FindVolume(*id);
  absl::Status status;
  if (row && row->device_handle == handle) {
    status = row->state == VolumeState::kAttached ? DetachAttached(core, context, *row)
                                                  : SettleVolume(core, context, *id, /*now=*/true);
  } else if ((*manager)->traits().names_devices) {
    const DeviceSpec spec = device ? SpecOf(*device) : DeviceSpec{.handle = handle, .params = {}};
    status =
        WithContext(handle, (*manager)->DetachVolume(context, spec, UnknownVolume(*id)).status());
  }
  if (!status.ok()) return status;
  return DetachVolumeResponse();
}

}  // namespace sma::core
