// Devices whose type names and keeps them itself (DeviceTraits::names_devices): what is not as for
// other devices.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/core/settle.h"
#include "agent/core/use_cases.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"

namespace sma::core {

using record::DeviceState;
using record::Durability;
using record::VolumeState;

namespace {

// The device of `manager` that requests call as they do the one that `provisional` stands for.
std::optional<record::Device> FindSameDevice(const Core& core, const DeviceManager& manager,
                                             const std::string& provisional) {
  for (record::Device& row : core.record->Devices()) {
    if (row.manager != manager.name() || row.state != DeviceState::kReady) continue;
    absl::StatusOr<DeviceSpec> device = manager.Describe(row.params);
    if (device.ok() && device->handle == provisional) return std::move(row);
  }
  return std::nullopt;
}

record::Device DeviceRow(const DeviceManager& manager, std::string handle, DeviceState state) {
  record::Device row;
  row.handle = std::move(handle);
  row.manager = std::string(manager.name());
  row.state = state;
  row.created = row.state_since = std::chrono::system_clock::now();
  return row;
}

bool IsAutonomous(const absl::StatusOr<DeviceManager*>& manager) {
  return manager.ok() && *manager != nullptr && (*manager)->traits().names_devices;
}

}  // namespace

bool UseCases::IsPlugins(const CreateDeviceRequest& request) const {
  return IsAutonomous(core_.registry.ForRequest(request));
}

bool UseCases::IsPlugins(DeviceType type) const {
  return IsAutonomous(core_.registry.ForType(type));
}

// A handle that is not in the record, and that no other type owns, such types are asked about.
bool UseCases::IsPlugins(std::string_view handle) const {
  const auto& managers = core_.registry.managers();
  auto is_plugins = [](const auto& manager) { return manager->traits().names_devices; };
  if (std::none_of(managers.begin(), managers.end(), is_plugins)) return false;
  if (std::optional<record::Device> row = core_.record->FindDevice(handle)) {
    return IsAutonomous(core_.registry.ForName(row->manager));
  }
  return std::none_of(managers.begin(), managers.end(), [&](const auto& manager) {
    return !is_plugins(manager) && manager->OwnsHandle(handle);
  });
}

absl::Status WaitForBdev(const Core& core, const base::Context& context,
                         const DeviceVolume& volume) {
  auto bdev = spdk::FindBdev(core.target, context, volume.bdev_name, volume.wait);
  if (!bdev.ok() || *bdev) return bdev.status();
  return absl::NotFoundError(fmt::format("volume {} was not found", volume.id.ToString()));
}

absl::StatusOr<CreateDeviceResponse> UseCases::CreateAutonomous(
    const base::Context& context, DeviceManager& manager, const CreateDeviceRequest& request) {
  std::optional<VolumeRequest> volume;
  if (request.has_volume()) {
    absl::StatusOr<VolumeRequest> checked = core_.volumes->Check(context, request.volume());
    if (!checked.ok()) return checked.status();
    volume = *std::move(checked);
  }
  absl::StatusOr<DeviceSpec> device = manager.Describe(request);
  if (!device.ok()) return device.status();
  const std::string& provisional = device->handle;
  auto lock = core_.locks.Acquire(context, {LockTable::Device(provisional)});
  if (!lock.ok()) return lock.status();
  absl::Status settled = SettleDevice(core_, context, provisional, /*now=*/true).status();
  if (!settled.ok()) return settled;
  std::optional<record::Device> known = FindSameDevice(core_, manager, provisional);
  LockTable::Held known_lock;
  if (known) {
    auto taken = core_.locks.Acquire(context, {LockTable::Device(known->handle)});
    if (!taken.ok()) return taken.status();
    known_lock = *std::move(taken);
  }
  record::Device row = known ? *known : DeviceRow(manager, provisional, DeviceState::kCreating);
  row.params = device->params;
  LockTable::Held volume_lock;
  if (volume) {
    auto taken = core_.locks.Acquire(context, {LockTable::Volume(volume->id)});
    if (!taken.ok()) return taken.status();
    volume_lock = *std::move(taken);
  }
  absl::StatusOr<std::string> handle =
      CreateAutonomousLocked(context, manager, row, volume ? &*volume : nullptr);
  if (!handle.ok()) return handle.status();
  CreateDeviceResponse response;
  response.set_handle(*handle);
  return response;
}

// `row`: of the device, when it is known already, or of what stands for it.
absl::StatusOr<std::string> UseCases::CreateAutonomousLocked(const base::Context& context,
                                                             DeviceManager& manager,
                                                             const record::Device& row,
                                                             const VolumeRequest* volume) {
  bool is_new = row.state == DeviceState::kCreating;
  std::vector<record::Volume> new_volumes;
  std::optional<record::Volume> attached;
  if (volume != nullptr) {
    attached = core_.record->FindVolume(volume->id);
    if (attached && attached->device_handle != row.handle) return IsElsewhere(*attached);
    if (attached && attached->state != VolumeState::kAttached) {
      absl::Status settled = SettleVolume(core_, context, volume->id, /*now=*/true);
      if (!settled.ok()) return settled;
      attached.reset();
    }
    if (attached) {
      absl::Status status = ConnectAgain(context, *volume, *attached);
      if (!status.ok()) return status;
    } else {
      absl::StatusOr<record::Volume> planned = core_.volumes->NewRow(*volume, row.handle);
      if (!planned.ok()) return planned.status();
      new_volumes.push_back(*std::move(planned));
    }
  }
  record::Change intent;
  if (is_new) intent.put_devices = {row};
  intent.put_volumes = new_volumes;
  absl::Status status = core_.record->Write(std::move(intent), Durability::kProcess);
  if (!status.ok()) return status;

  OutcomeOr<std::string> handle =
      MakeAutonomous(context, manager, row, volume, attached, new_volumes);
  if (handle.ok()) return *handle;
  Outcome outcome = handle.outcome();
  if (!new_volumes.empty() && !outcome.is_unknown()) {
    outcome = std::move(outcome).AfterUndo(
        core_.volumes->Release(spdk::UndoContext(), new_volumes.front()));
  }
  if (is_new) return FailCreate(row, new_volumes, outcome);
  if (new_volumes.empty()) return outcome.status();
  return FailAttach(new_volumes.front(), std::move(outcome)).status();
}

// Connects a new volume, has the device made, and writes down what it is called.
OutcomeOr<std::string> UseCases::MakeAutonomous(const base::Context& context,
                                                DeviceManager& manager, const record::Device& row,
                                                const VolumeRequest* asked_for,
                                                const std::optional<record::Volume>& attached,
                                                std::vector<record::Volume>& new_volumes) {
  std::optional<DeviceVolume> volume;
  if (!new_volumes.empty()) {
    Outcome outcome = core_.volumes->Connect(context, *asked_for, new_volumes.front());
    if (!outcome.ok()) return outcome;
    volume = VolumeOf(new_volumes.front());
    volume->wait = core_.volumes->WaitOf(new_volumes.front());
    outcome = WaitForBdev(core_, context, *volume);
    if (!outcome.ok()) return outcome;
  } else if (attached) {
    volume = VolumeOf(*attached);
  }
  OutcomeOr<CreatedDevice> created =
      manager.CreateDevice(context, SpecOf(row), volume ? &*volume : nullptr);
  if (!created.ok()) return created.outcome();
  const std::string& handle = created->handle;

  std::optional<record::Device> other = core_.record->FindDevice(handle);
  if (other && other->manager != manager.name()) {
    return absl::InternalError(
        fmt::format("{} gave {}, which is a device of {}", manager.name(), handle, other->manager));
  }
  absl::Status status;
  record::Change done;
  record::Device made = InState(row, DeviceState::kReady);
  made.handle = handle;
  if (made.handle != row.handle) done.remove_devices = {row.handle};
  done.put_devices = {made};
  for (record::Volume added : new_volumes) {
    added.device_handle = handle;
    added.attachment = created->attachment;
    if (auto limits = core_.record->FindLimits(added.id); limits && status.ok()) {
      status = manager.SetQos(context, SpecOf(made), &*volume, *limits).status();
    }
    done.put_volumes.push_back(InState(std::move(added), VolumeState::kAttached));
  }
  if (status.ok()) status = context.status();
  if (status.ok()) status = core_.record->Write(std::move(done), Durability::kHost);
  if (!status.ok()) return status;
  return handle;
}

absl::Status UseCases::AdoptAutonomous(const base::Context& context, const std::string& handle) {
  if (core_.record->FindDevice(handle)) return absl::OkStatus();
  DeviceManager* manager = core_.registry.ForHandle(handle);
  if (manager == nullptr || !manager->traits().names_devices) return absl::OkStatus();
  auto lock = core_.locks.Acquire(context, {LockTable::Device(handle)});
  if (!lock.ok()) return lock.status();
  if (core_.record->FindDevice(handle)) return absl::OkStatus();
  record::Change change;
  change.put_devices.push_back(DeviceRow(*manager, handle, DeviceState::kReady));
  return core_.record->Write(std::move(change), Durability::kProcess);
}

void UseCases::ForgetUnused(const base::Context& context, const std::string& handle) {
  auto lock = core_.locks.Acquire(context, {LockTable::Device(handle)});
  std::optional<record::Device> row = core_.record->FindDevice(handle);
  if (!lock.ok() || !row || row->params.params_case() != CreateDeviceRequest::PARAMS_NOT_SET)
    return;
  if (!core_.record->VolumesOf(handle).empty()) return;
  record::Change change;
  change.remove_devices.push_back(handle);
  core_.record->Write(std::move(change), Durability::kProcess).IgnoreError();
}

absl::StatusOr<SetQosResponse> UseCases::SetQosAutonomous(const base::Context& context,
                                                          DeviceManager& manager,
                                                          const DeviceSpec& device,
                                                          const SetQosRequest& request) {
  base::Uuid id = LimitsKeyOf(device.handle);
  if (!request.volume_id().empty()) {
    absl::StatusOr<base::Uuid> checked = CheckVolumeId(request.volume_id());
    if (!checked.ok()) return checked.status();
    id = *checked;
  }
  if (!request.has_maximum()) return SetQosResponse();
  auto locks = core_.locks.Acquire(
      context, {LockTable::Device(device.handle, /*shared=*/true), LockTable::Volume(id)});
  if (!locks.ok()) return locks.status();
  std::optional<DeviceVolume> volume;
  // What the record does not have on this device it cannot set again later: the type is asked all
  // the same.
  bool is_known = core_.record->FindDevice(device.handle).has_value();
  if (!request.volume_id().empty()) {
    std::optional<record::Volume> row = core_.record->FindVolume(id);
    is_known = row && row->device_handle == device.handle && row->state == VolumeState::kAttached;
    volume = is_known ? VolumeOf(*row) : UnknownVolume(id);
  }
  const DeviceVolume* of_call = volume ? &*volume : nullptr;
  absl::Status status = is_known
                            ? SetLimits(context, manager, device, of_call, request.maximum())
                            : manager.SetQos(context, device, of_call, request.maximum()).status();
  if (!status.ok()) return WithContext(device.handle, status);
  return SetQosResponse();
}

}  // namespace sma::core
