#include "agent/core/settle.h"

#include <spdlog/spdlog.h>

namespace sma::core {
namespace {

using record::DeviceState;
using record::Durability;
using record::VolumeState;

bool IsOld(const Core& core, record::Time since) {
  auto age = std::chrono::system_clock::now() - since;
  return age >= core.options.late_action_time || age < std::chrono::seconds(0);
}

// Not OK, so that it is looked at again.
absl::Status MayStillAct() {
  return absl::UnavailableError("the target may still act on a call that was given up");
}

}  // namespace

absl::Status ReleaseAll(Core& core, const base::Context& context,
                        const std::vector<record::Volume>& rows) {
  absl::Status first;
  for (const record::Volume& row : rows) first.Update(core.volumes->Release(context, row));
  return first;
}

absl::Status SettleDevice(Core& core, const base::Context& context, const std::string& handle,
                          bool now) {
  std::optional<record::Device> row = core.record->FindDevice(handle);
  if (!row || row->state == DeviceState::kReady) return absl::OkStatus();
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *row);
  if (!manager.ok()) return manager.status();
  const std::vector<record::Volume> rows = core.record->VolumesOf(handle);
  const std::vector<DeviceVolume> volumes = VolumesOf(rows);
  absl::Status status;
  if (row->state == DeviceState::kDeleting) {
    status = (*manager)->DeleteDevice(context, SpecOf(*row), volumes);
  } else {
    status =
        (*manager)->UndoCreate(context, SpecOf(*row), volumes.empty() ? nullptr : &volumes.front());
  }
  if (status.ok()) status = ReleaseAll(core, context, rows);
  record::Change change;
  if (!status.ok()) {
    change.put_devices.push_back(WithError(*row, status));
    core.record->Write(std::move(change), Durability::kProcess).IgnoreError();
    return About(handle, status);
  }
  if (!now && !IsOld(core, row->state_since)) return About(handle, MayStillAct());
  change.remove_devices.push_back(handle);
  change.remove_limits.push_back(LimitsKeyOf(handle));
  for (const DeviceVolume& volume : volumes) change.remove_volumes.push_back(volume.id);
  spdlog::info("{}: what an unfinished call had left is gone", handle);
  return core.record->Write(std::move(change), Durability::kHost);
}

absl::Status SettleVolume(Core& core, const base::Context& context, const base::Uuid& id,
                          bool now) {
  std::optional<record::Volume> row = core.record->FindVolume(id);
  if (!row || row->state == VolumeState::kAttached) return absl::OkStatus();
  std::optional<record::Device> device = core.record->FindDevice(row->device_handle);
  absl::Status status;
  if (device) {
    absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *device);
    if (!manager.ok()) return manager.status();
    DeviceVolume volume = VolumeOf(*row);
    volume.attachment.clear();
    status = (*manager)->DetachVolume(context, SpecOf(*device), volume);
  }
  if (status.ok()) status = core.volumes->Release(context, *row);
  record::Change change;
  if (!status.ok()) {
    change.put_volumes.push_back(WithError(*row, status));
    core.record->Write(std::move(change), Durability::kProcess).IgnoreError();
    return About("volume " + id.ToString(), status);
  }
  if (!now && !IsOld(core, row->state_since))
    return About("volume " + id.ToString(), MayStillAct());
  change.remove_volumes.push_back(id);
  spdlog::info("volume {}: what an unfinished call had left is gone", id.ToString());
  return core.record->Write(std::move(change), Durability::kHost);
}

}  // namespace sma::core
