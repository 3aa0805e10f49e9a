#include <fmt/format.h>

#include <utility>

#include "agent/core/settle.h"
#include "agent/core/use_cases.h"

namespace sma::core {

using record::DeviceState;
using record::Durability;
using record::VolumeState;

base::Context UseCases::Bounded(const base::Context& context) const {
  return context.Child(std::chrono::steady_clock::now() + core_.options.default_timeout);
}

// Once it is written down that the device has to go it is not taken back: what cannot be done now
// is done later.
absl::StatusOr<DeleteDeviceResponse> UseCases::DeleteDevice(const base::Context& caller,
                                                            const DeleteDeviceRequest& request) {
  const base::Context context = Bounded(caller);
  const std::string& handle = request.handle();
  auto lock = core_.locks.Acquire(context, {LockTable::Device(handle)});
  if (!lock.ok()) return lock.status();
  std::optional<record::Device> row = core_.record->FindDevice(handle);
  if (!row) {
    if (core_.registry.ForHandle(handle) != nullptr) return DeleteDeviceResponse();
    return absl::NotFoundError(fmt::format("handle: no device type has handles like {}", handle));
  }
  if (row->state == DeviceState::kCreating || row->state == DeviceState::kUndoing) {
    absl::Status settled = SettleDevice(core_, context, handle, /*now=*/true);
    if (!settled.ok()) return settled;
    return DeleteDeviceResponse();
  }
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core_, *row);
  if (!manager.ok()) return manager.status();
  std::vector<record::Volume> volumes = core_.record->VolumesOf(handle);
  if (core_.options.refuse_delete_with_volumes && !volumes.empty() && !(*manager)->needs_volume()) {
    return absl::FailedPreconditionError(
        fmt::format("{}: {} volumes are attached to it", handle, volumes.size()));
  }
  std::vector<LockTable::Key> keys;
  for (const record::Volume& volume : volumes) keys.push_back(LockTable::Volume(volume.id));
  auto volume_locks = core_.locks.Acquire(context, std::move(keys));
  if (!volume_locks.ok()) return volume_locks.status();

  record::Device going = InState(*row, DeviceState::kDeleting);
  record::Change intent;
  intent.put_devices = {going};
  for (const record::Volume& volume : volumes) {
    intent.put_volumes.push_back(InState(volume, VolumeState::kDetaching));
  }
  absl::Status status = core_.record->Write(std::move(intent), Durability::kProcess);
  if (!status.ok()) return status;
  status = (*manager)->DeleteDevice(context, SpecOf(*row), VolumesOf(volumes));
  if (status.ok()) status = ReleaseAll(core_, context, volumes);
  record::Change change;
  if (status.ok()) {
    change.remove_devices.push_back(handle);
    for (const record::Volume& volume : volumes) change.remove_volumes.push_back(volume.id);
    status = core_.record->Write(std::move(change), Durability::kHost);
  } else {
    change.put_devices.push_back(WithError(going, status));
    core_.record->Write(std::move(change), Durability::kProcess).IgnoreError();
  }
  if (status.ok()) return DeleteDeviceResponse();
  core_.wake_background();
  return About(handle, status);
}

}  // namespace sma::core
