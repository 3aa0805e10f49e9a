#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/core/settle.h"
#include "agent/core/use_cases.h"
#include "sma/outcome.h"

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
    DeviceManager* owner = core_.registry.ForHandle(handle);
    if (owner == nullptr) {
      return absl::NotFoundError(fmt::format("handle: no device type has handles like {}", handle));
    }
    absl::Status status;
    if (owner->traits().names_devices) {
      status = owner->DeleteDevice(context, {.handle = handle, .params = {}}, {}).status();
    }
    if (!status.ok()) return WithContext(handle, status);
    return DeleteDeviceResponse();
  }
  if (row->state != DeviceState::kReady) {
    Outcome settled = SettleDevice(core_, context, handle, /*now=*/true);
    if (!settled.ok() && !settled.is_under_way()) return settled.status();
    return DeleteDeviceResponse();
  }
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core_, *row);
  if (!manager.ok()) return manager.status();
  std::vector<record::Volume> volumes = core_.record->VolumesOf(handle);
  const DeviceTraits traits = (*manager)->traits();
  bool refused = core_.options.refuse_delete_with_volumes && !traits.needs_volume;
  if (traits.names_devices) refused = !volumes.empty() && !(*manager)->deletes_with_volumes();
  if (refused && !volumes.empty()) {
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
  const bool is_unsettled = std::any_of(volumes.begin(), volumes.end(), [](const auto& volume) {
    return volume.state != VolumeState::kAttached;
  });
  auto guard = core_.volumes->BeginDetach(context, volumes);
  const bool may_come_back =
      MayComeBack(core_, handle) || ((is_unsettled || guard != nullptr) && MayActLate(core_));
  const Outcome outcome = (*manager)->DeleteDevice(context, SpecOf(*row), VolumesOf(volumes));
  guard.reset();
  status = outcome.status();
  if (traits.names_devices && !status.ok() && !outcome.is_unknown()) {
    // Refused by a type that knows its devices: all stays as it was.
    record::Change back;
    back.put_devices = {*row};
    back.put_volumes = volumes;
    core_.record->Write(std::move(back), Durability::kProcess).IgnoreError();
    return WithContext(handle, status);
  }
  if (status.ok()) status = ReleaseAll(core_, context, volumes);
  if (status.ok() && may_come_back) {
    core_.wake_background();
    return DeleteDeviceResponse();
  }
  record::Change change;
  if (status.ok()) {
    change.remove_devices.push_back(handle);
    change.remove_limits.push_back(LimitsKeyOf(handle));
    for (const record::Volume& volume : volumes) change.remove_volumes.push_back(volume.id);
    status = core_.record->Write(std::move(change), Durability::kHost);
  } else if (outcome.is_under_way()) {
    spdlog::info("{}: is being removed: {}", handle, std::string(status.message()));
    change.put_devices.push_back(WithError(going, status));
    status = core_.record->Write(std::move(change), Durability::kHost);
    core_.wake_background();
  } else {
    change.put_devices.push_back(WithError(going, status));
    core_.record->Write(std::move(change), Durability::kProcess).IgnoreError();
  }
  if (status.ok()) return DeleteDeviceResponse();
  core_.wake_background();
  return WithContext(handle, status);
}

}  // namespace sma::core
