#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/core/operation.h"
#include "agent/core/settle.h"
#include "agent/core/use_cases.h"
#include "agent/core/volume_steps.h"

namespace sma::core {

using record::DeviceState;
using record::VolumeState;

namespace {

// A handle that the record does not have: success, unless nobody has such handles.
absl::Status DeleteUnknown(Core& core, const base::Context& context, const std::string& handle) {
  DeviceManager* owner = core.registry.ForHandle(handle);
  if (owner == nullptr) {
    return absl::NotFoundError(fmt::format("handle: no device type has handles like {}", handle));
  }
  if (!owner->traits().names_devices) return absl::OkStatus();
  return WithContext(handle,
                     owner->DeleteDevice(context, {.handle = handle, .params = {}}, {}).status());
}

absl::Status CheckVolumes(const Core& core, const DeviceManager& manager, const std::string& handle,
                          const std::vector<record::Volume>& volumes) {
  if (volumes.empty() || manager.traits().needs_volume) return absl::OkStatus();
  const bool refuses = manager.traits().names_devices ? !manager.deletes_with_volumes()
                                                      : core.options.refuse_delete_with_volumes;
  if (!refuses) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("{}: {} volumes are attached to it", handle, volumes.size()));
}

// Once it is written down that the device has to go that is not taken back: what cannot be done now
// is done later.
absl::Status DeleteReady(Core& core, const base::Context& context, DeviceManager& manager,
                         const record::Device& row, const std::vector<record::Volume>& volumes) {
  Operation operation(core, context, row.handle);
  operation.Delete(row);
  for (const record::Volume& volume : volumes) operation.Detach(volume);
  if (manager.traits().names_devices) operation.CanBeRefused();
  if (absl::Status status = operation.Begin(); !status.ok()) return status;

  auto guard = core.volumes->BeginDetach(context, volumes);
  const bool may_come_back = operation.MayActLate();
  Outcome outcome = manager.DeleteDevice(context, SpecOf(row), VolumesOf(volumes));
  guard.reset();
  if (outcome.is_under_way()) {
    spdlog::info("{}: is being removed: {}", row.handle, outcome.message());
    outcome = operation.Abandon(std::move(outcome));
    return outcome.is_under_way() ? absl::OkStatus() : outcome.status();
  }
  if (!outcome.ok()) return operation.Abandon(std::move(outcome)).status();
  absl::Status released = ReleaseAll(core, context, manager, volumes);
  if (!released.ok()) return operation.Abandon(Outcome::Unknown(std::move(released))).status();
  return operation.CommitRemoval(may_come_back);
}

}  // namespace

absl::StatusOr<DeleteDeviceResponse> DeleteDevice(Core& core, const base::Context& context,
                                                  const DeleteDeviceRequest& request) {
  const std::string& handle = request.handle();
  auto lock = core.locks.Acquire(context, {LockTable::Device(handle)});
  if (!lock.ok()) return lock.status();
  std::optional<record::Device> row = core.record->FindDevice(handle);
  absl::Status status;
  if (!row) {
    status = DeleteUnknown(core, context, handle);
  } else if (row->state != DeviceState::kReady) {
    Outcome settled = SettleDevice(core, context, handle, /*now=*/true);
    if (!settled.is_under_way()) status = settled.status();
  } else {
    absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *row);
    if (!manager.ok()) return manager.status();
    const std::vector<record::Volume> volumes = core.record->VolumesOf(handle);
    status = CheckVolumes(core, **manager, handle, volumes);
    if (!status.ok()) return status;
    std::vector<LockTable::Key> keys;
    for (const record::Volume& volume : volumes) keys.push_back(LockTable::Volume(volume.id));
    auto volume_locks = core.locks.Acquire(context, std::move(keys));
    if (!volume_locks.ok()) return volume_locks.status();
    status = DeleteReady(core, context, **manager, *row, volumes);
  }
  if (!status.ok()) return status;
  return DeleteDeviceResponse();
}

}  // namespace sma::core
