#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "agent/core/settle.h"
#include "agent/core/use_cases.h"
#include "agent/spdk/call.h"

namespace sma::core {

using record::DeviceState;
using record::Durability;
using record::VolumeState;

namespace {

record::Device NewDeviceRow(const DeviceManager& manager, const DeviceSpec& device,
                            DeviceState state) {
  record::Device row;
  row.handle = device.handle;
  row.manager = std::string(manager.name());
  row.params = device.params;
  row.state = state;
  row.created = row.state_since = std::chrono::system_clock::now();
  return row;
}

absl::Status HasOtherVolumes(const std::string& handle) {
  return absl::AlreadyExistsError(fmt::format("{}: exists with other volumes", handle));
}

}  // namespace

absl::StatusOr<CreateDeviceResponse> UseCases::CreateDevice(const base::Context& caller,
                                                            const CreateDeviceRequest& request) {
  const base::Context context = Bounded(caller);
  absl::StatusOr<DeviceManager*> manager = core_.registry.ForRequest(request);
  if (!manager.ok()) return manager.status();
  if ((*manager)->traits().names_devices) return CreateAutonomous(context, **manager, request);
  absl::StatusOr<DeviceSpec> device = (*manager)->Describe(request);
  if (!device.ok()) return device.status();
  std::optional<VolumeRequest> volume;
  if (request.has_volume()) {
    absl::StatusOr<VolumeRequest> checked = core_.volumes->Check(context, request.volume());
    if (!checked.ok()) return checked.status();
    volume = *std::move(checked);
  } else if ((*manager)->traits().needs_volume) {
    return absl::InvalidArgumentError(
        fmt::format("volume: a device of type {} needs one", (*manager)->name()));
  }

  std::vector<LockTable::Key> keys{LockTable::Device(device->handle)};
  if (volume) keys.push_back(LockTable::Volume(volume->id));
  auto locks = core_.locks.Acquire(context, std::move(keys));
  if (!locks.ok()) return locks.status();
  absl::Status status = CreateLocked(context, **manager, *device, volume ? &*volume : nullptr);
  if (!status.ok()) return status;
  CreateDeviceResponse response;
  response.set_handle(device->handle);
  return response;
}

absl::Status UseCases::CreateLocked(const base::Context& context, DeviceManager& manager,
                                    const DeviceSpec& device, const VolumeRequest* volume) {
  if (volume != nullptr) {
    std::optional<record::Volume> row = core_.record->FindVolume(volume->id);
    if (row && row->device_handle != device.handle) return IsElsewhere(*row);
  }
  absl::Status settled = SettleDevice(core_, context, device.handle, /*now=*/true).status();
  if (settled.ok() && volume != nullptr) {
    settled = SettleVolume(core_, context, volume->id, /*now=*/true);
  }
  if (!settled.ok()) return settled;
  if (std::optional<record::Device> row = core_.record->FindDevice(device.handle)) {
    return CreateAgain(context, manager, *row, device, volume);
  }
  absl::StatusOr<std::optional<ExistingDevice>> existing = manager.FindExisting(context, device);
  if (!existing.ok()) return WithContext(device.handle, existing.status());
  if (*existing) return TakeOver(context, manager, device, **existing, volume);
  return CreateNew(context, manager, device, volume);
}

absl::Status UseCases::CreateNew(const base::Context& context, DeviceManager& manager,
                                 const DeviceSpec& device, const VolumeRequest* volume) {
  record::Device row = NewDeviceRow(manager, device, DeviceState::kCreating);
  std::vector<record::Volume> volumes;
  if (volume != nullptr) {
    absl::StatusOr<record::Volume> planned = core_.volumes->NewRow(*volume, device.handle);
    if (!planned.ok()) return planned.status();
    volumes.push_back(*std::move(planned));
  }
  record::Change intent;
  intent.put_devices = {row};
  intent.put_volumes = volumes;
  absl::Status status = core_.record->Write(std::move(intent), Durability::kProcess);
  if (!status.ok()) return status;

  Outcome outcome;
  if (volume != nullptr) outcome = MakeByPlan(context, manager, row, *volume, volumes.front());
  if (volume == nullptr || outcome.needs_setup()) {
    if (volume != nullptr) outcome = core_.volumes->Connect(context, *volume, volumes.front());
    if (volume != nullptr && !outcome.ok()) return FailCreate(row, volumes, outcome);
    outcome = MakeDevice(context, manager, row, volumes, /*plan=*/nullptr);
  }
  if (outcome.ok()) return absl::OkStatus();
  if (!volumes.empty() && !outcome.is_unknown()) {
    outcome =
        std::move(outcome).AfterUndo(core_.volumes->Release(spdk::UndoContext(), volumes.front()));
  }
  return FailCreate(row, volumes, outcome);
}

// Connects the volume and creates the device with it in one go. Needs setup, with nothing left,
// where that takes more.
Outcome UseCases::MakeByPlan(const base::Context& context, DeviceManager& manager,
                             const record::Device& row, const VolumeRequest& request,
                             record::Volume volume) {
  OutcomeOr<std::unique_ptr<BdevPlan>> plan = PlanFor(context, manager, request, volume);
  if (!plan.ok()) return plan.outcome();
  Outcome outcome = MakeDevice(context, manager, row, {std::move(volume)}, plan->get());
  if (outcome.ok() || outcome.is_unknown()) return outcome;
  return (*plan)->Undo(std::move(outcome));
}

// Makes the device with the volumes, one at most, that are connected already or are by `plan`, and
// writes down that it is ready. Nothing of it is left after a failure, or it is unknown.
Outcome UseCases::MakeDevice(const base::Context& context, DeviceManager& manager,
                             const record::Device& row, const std::vector<record::Volume>& volumes,
                             BdevPlan* plan) {
  const DeviceSpec device = SpecOf(row);
  std::optional<DeviceVolume> device_volume;
  if (!volumes.empty()) {
    device_volume = VolumeOf(volumes.front());
    device_volume->wait = core_.volumes->WaitOf(volumes.front());
    device_volume->plan = plan;
  }
  OutcomeOr<CreatedDevice> created =
      manager.CreateDevice(context, device, device_volume ? &*device_volume : nullptr);
  if (!created.ok()) return created.outcome();
  if (device_volume) device_volume->plan = nullptr;

  absl::Status status;
  record::Change done;
  done.put_devices = {InState(row, DeviceState::kReady)};
  for (record::Volume attached : volumes) {
    attached.attachment = created->attachment;
    if (auto limits = core_.record->FindLimits(attached.id)) {
      status = manager.SetQos(context, device, &*device_volume, *limits).status();
    }
    done.put_volumes.push_back(InState(std::move(attached), VolumeState::kAttached));
  }
  // The caller has been told that it failed if the answers came after its time.
  if (status.ok()) status = context.status();
  if (status.ok()) status = core_.record->Write(std::move(done), Durability::kHost);
  if (status.ok()) return status;
  return Outcome(std::move(status))
      .AfterUndo(manager.DeleteDevice(spdk::UndoContext(), device, {}));
}

// Takes the intent back, or, when something of the call may be left on the target, has it undone
// later.
absl::Status UseCases::FailCreate(const record::Device& device,
                                  const std::vector<record::Volume>& volumes,
                                  const Outcome& outcome) {
  const absl::Status& error = outcome.status();
  record::Change change;
  bool settled = outcome.is_settled() && !LeftLate(core_, error, volumes);
  if (settled) {
    change.remove_devices.push_back(device.handle);
  } else {
    change.put_devices.push_back(WithError(InState(device, DeviceState::kUndoing), error));
  }
  for (const record::Volume& volume : volumes) {
    if (settled) {
      change.remove_volumes.push_back(volume.id);
    } else {
      change.put_volumes.push_back(WithError(InState(volume, VolumeState::kDetaching), error));
    }
  }
  absl::Status written = core_.record->Write(std::move(change), Durability::kProcess);
  if (!written.ok()) spdlog::error("{}: {}", device.handle, written.ToString());
  if (!settled || !written.ok()) core_.wake_background();
  return WithContext(device.handle, error);
}

absl::Status UseCases::CreateAgain(const base::Context& context, DeviceManager& manager,
                                   const record::Device& row, const DeviceSpec& device,
                                   const VolumeRequest* volume) {
  if (row.params.SerializeAsString() != device.params.SerializeAsString()) {
    return absl::AlreadyExistsError(fmt::format("{}: exists with other parameters", device.handle));
  }
  std::vector<record::Volume> volumes = core_.record->VolumesOf(device.handle);
  bool has_it = volume != nullptr && core_.record->FindVolume(volume->id).has_value();
  if (volume != nullptr && !has_it && !volumes.empty()) return HasOtherVolumes(device.handle);
  std::erase_if(volumes, [](const record::Volume& v) { return v.state != VolumeState::kAttached; });
  if (has_it && volumes.size() == 1 &&
      IsIntact(context, manager, device, *volume, volumes.front())) {
    return absl::OkStatus();
  }
  for (record::Volume& known : volumes) {
    if (volume == nullptr || known.id != volume->id) continue;
    absl::Status status = ConnectAgain(context, *volume, known);
    if (!status.ok()) return WithContext(device.handle, status);
  }
  const std::vector<DeviceVolume> attached = VolumesOf(volumes);
  RestoreResult result =
      manager.Restore(context, {.device = device, .volumes = attached, .expose_incomplete = false});
  NoteLate(core_, device.handle, result);
  if (!result.status.ok()) return WithContext(device.handle, result.status);
  for (size_t i = 0; i < attached.size(); ++i) {
    bool asked_for = volume != nullptr && attached[i].id == volume->id;
    absl::Status status = result.volumes[i].attachment.status();
    auto limits = core_.record->FindLimits(attached[i].id);
    if (status.ok() && limits && result.volumes[i].attached_again) {
      status = manager.SetQos(context, device, &attached[i], *limits).status();
    }
    if (asked_for && !status.ok()) return WithContext(device.handle, status);
  }
  if (volume == nullptr || has_it) return absl::OkStatus();
  return AttachNew(context, manager, device, *volume).status();
}

// A device that is on the target, equal to what is asked for, though the record does not have it.
absl::Status UseCases::TakeOver(const base::Context& context, DeviceManager& manager,
                                const DeviceSpec& device, const ExistingDevice& existing,
                                const VolumeRequest* volume) {
  record::Change change;
  change.put_devices = {NewDeviceRow(manager, device, DeviceState::kReady)};
  bool has_it = false;
  for (const DeviceVolume& attached : existing.volumes) {
    if (volume == nullptr || attached.id != volume->id) continue;
    has_it = true;
    absl::StatusOr<record::Volume> row = core_.volumes->NewRow(*volume, device.handle);
    if (!row.ok()) return row.status();
    row->attachment = attached.attachment;
    absl::Status same = core_.volumes->TakeOver(context, *volume, *row, attached.bdev_name);
    if (!same.ok()) return WithContext(device.handle, same);
    change.put_volumes.push_back(InState(*std::move(row), VolumeState::kAttached));
  }
  if (volume != nullptr && !has_it && !existing.volumes.empty()) {
    return HasOtherVolumes(device.handle);
  }
  absl::Status status = core_.record->Write(std::move(change), Durability::kHost);
  if (!status.ok()) return status;
  spdlog::info("{}: was on the target and is ours from now on", device.handle);
  if (volume == nullptr || has_it) return status;
  status = AttachNew(context, manager, device, *volume).status();
  if (status.ok() || core_.record->FindVolume(volume->id)) return status;
  record::Change undo;
  undo.remove_devices.push_back(device.handle);
  core_.record->Write(std::move(undo), Durability::kHost).IgnoreError();
  return status;
}

}  // namespace sma::core
