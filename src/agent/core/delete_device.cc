// SPDX-License-Identifier: Apache-2.0

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

// Deleting a device that is not in the record succeeds if some device type uses handles of this
// form.
absl::Status DeleteUnknown(Core& core, const base::Context& context, const std::string& handle) {
  DeviceManager* owner = core.registry.ForHandle(handle);
  if (owner == nullptr) {
    return absl::NotFoundError(
        fmt::format("handle: no device type uses handles such as {}", handle));
  }
  if (!owner->traits().names_devices) return absl::OkStatus();
  return WithContext(handle,
                     owner->DeleteDevice(context, {.handle = handle, .params = {}}, {}).status());
}

absl::Status CheckVolumes(const Core& core, const DeviceManager& manager, const std::string& handle,
                          const std::vector<record::Volume>& volumes) {
  // Volumes that are being detached do not count, because the detach was reported to their clients
  // as successful.
  const auto attached = std::count_if(volumes.begin(), volumes.end(), [](const auto& volume) {
    return volume.state != VolumeState::kDetaching;
  });
  if (attached == 0 || manager.traits().needs_volume) return absl::OkStatus();
  const bool refuses = manager.traits().names_devices ? !manager.deletes_with_volumes()
                                                      : core.options.refuse_delete_with_volumes;
  if (!refuses) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("{}: {} volumes are still attached", handle, attached));
}

// Once the record says that the device is being deleted, the deletion is not rolled back: the parts
// that cannot be completed now are completed in the background.
absl::Status DeleteReady(Core& core, const base::Context& context, DeviceManager& manager,
                         const record::Device& row, const std::vector<record::Volume>& volumes) {
  Operation operation(core, context, row.handle);
  operation.Delete(row);
  for (const record::Volume& volume : volumes) operation.Detach(volume);
  if (manager.traits().names_devices) operation.CanBeRefused();
  if (absl::Status status = operation.Begin(); !status.ok()) return status;

  bool may_come_back = false;
  Outcome outcome = RemoveFromDevice(core, context, volumes, [&](const base::Context& limited) {
    may_come_back = operation.MayActLate();
    return manager.DeleteDevice(limited, SpecOf(row), VolumesOf(volumes));
  });
  if (outcome.is_under_way()) {
    spdlog::info("{}: deletion continues in the background: {}", row.handle, outcome.message());
    outcome = operation.Abandon(std::move(outcome));
    return outcome.is_under_way() ? absl::OkStatus() : outcome.status();
  }
  if (!outcome.ok()) return operation.Abandon(std::move(outcome)).status();
  absl::Status released = ReleaseAll(core, context, manager, volumes);
  if (!released.ok()) return operation.Abandon(Outcome::Unknown(std::move(released))).status();
  return operation.CommitRemoval(may_come_back);
}

absl::Status DeleteLocked(Core& core, const base::Context& context, const std::string& handle) {
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
  return status;
}

}  // namespace

absl::StatusOr<DeleteDeviceResponse> DeleteDevice(Core& core, const base::Context& context,
                                                  const DeleteDeviceRequest& request) {
  const std::string& handle = request.handle();
  const absl::Status status = DeleteLocked(core, context, handle);
  if (status.ok()) return DeleteDeviceResponse();
  const std::optional<record::Device> row = core.record->FindDevice(handle);
  const bool is_pending = row && row->state == DeviceState::kDeleting;
  return is_pending ? WithPendingRemoval(status) : status;
}

}  // namespace sma::core
