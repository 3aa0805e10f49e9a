#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "agent/core/restore.h"
#include "agent/core/settle.h"
#include "agent/core/use_cases.h"
#include "agent/spdk/call.h"

namespace sma::core {

using record::DeviceState;
using record::Durability;
using record::VolumeState;

namespace {

absl::Status NoDevice(const std::string& handle) {
  return absl::NotFoundError(fmt::format("device_handle: there is no device {}", handle));
}

bool IsAutonomous(const Core& core, const std::string& handle) {
  std::optional<record::Device> row = core.record->FindDevice(handle);
  DeviceManager* manager = row ? core.registry.ForName(row->manager) : nullptr;
  return manager != nullptr && manager->traits().names_devices;
}

std::string NameOf(const base::Uuid& id) { return "volume " + id.ToString(); }

}  // namespace

absl::StatusOr<AttachVolumeResponse> UseCases::AttachVolume(const base::Context& caller,
                                                            const AttachVolumeRequest& request) {
  const base::Context context = Bounded(caller);
  if (!request.has_volume()) return absl::InvalidArgumentError("volume: missing");
  absl::StatusOr<VolumeRequest> volume = core_.volumes->Check(context, request.volume());
  if (!volume.ok()) return volume.status();
  const std::string& handle = request.device_handle();
  absl::Status status = AdoptAutonomous(context, handle);
  if (!status.ok()) return status;
  Outcome outcome = AttachOnce(context, handle, *volume);
  if (!outcome.ok() && IsAutonomous(core_, handle)) {
    ForgetUnused(context, handle);
  } else if (outcome.is_device_missing()) {
    // The target has lost the device, and it was not yet its turn to be made again.
    RestoreDevice(core_, context, handle, {.expose_incomplete = false}).IgnoreError();
    outcome = AttachOnce(context, handle, *volume);
  }
  if (!outcome.ok()) return outcome.status();
  return AttachVolumeResponse();
}

Outcome UseCases::AttachOnce(const base::Context& context, const std::string& handle,
                             const VolumeRequest& volume) {
  auto locks = core_.locks.Acquire(
      context, {LockTable::Device(handle, /*shared=*/true), LockTable::Volume(volume.id)});
  if (!locks.ok()) return locks.status();
  std::optional<record::Device> device = core_.record->FindDevice(handle);
  if (!device || device->state != DeviceState::kReady) return NoDevice(handle);
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core_, *device);
  if (!manager.ok()) return manager.status();
  if ((*manager)->traits().needs_volume) {
    return absl::UnimplementedError(
        fmt::format("{}: its volume is given when it is created", handle));
  }
  return AttachLocked(context, **manager, SpecOf(*device), volume);
}

Outcome UseCases::AttachLocked(const base::Context& context, DeviceManager& manager,
                               const DeviceSpec& device, const VolumeRequest& volume) {
  std::optional<record::Volume> row = core_.record->FindVolume(volume.id);
  if (row && row->device_handle != device.handle) return IsElsewhere(*row);
  if (row && row->state == VolumeState::kAttached) {
    return VerifyAttached(context, manager, device, volume, *std::move(row));
  }
  absl::Status settled = SettleVolume(core_, context, volume.id, /*now=*/true);
  if (!settled.ok()) return settled;
  return AttachNew(context, manager, device, volume);
}

// Whether an encrypted volume is exported as `request` asks for, by one look at its device: its
// layer is there then, too. False: it takes more than that to tell.
bool UseCases::IsIntact(const base::Context& context, DeviceManager& manager,
                        const DeviceSpec& device, const VolumeRequest& request,
                        const record::Volume& row) {
  if (manager.traits().names_devices || !core_.volumes->IsKnownSame(request, row)) return false;
  const DeviceVolume volume = VolumeOf(row);
  const RestoreResult found =
      manager.Restore(context, {.device = device, .volumes = {&volume, 1}, .repair = false});
  const absl::StatusOr<std::string>& attachment = found.volumes.front().attachment;
  return found.status.ok() && found.differences.empty() && attachment.ok() &&
         *attachment == row.attachment;
}

absl::Status UseCases::ConnectAgain(const base::Context& context, const VolumeRequest& request,
                                    record::Volume& row) {
  const record::Volume before = row;
  absl::Status status = core_.volumes->ConnectAgain(context, request, row);
  if (record::SameConnection(row, before)) return status;
  record::Change change;
  change.put_volumes.push_back(row);
  status.Update(core_.record->Write(std::move(change), Durability::kHost));
  return status;
}

Outcome UseCases::VerifyAttached(const base::Context& context, DeviceManager& manager,
                                 const DeviceSpec& device, const VolumeRequest& request,
                                 record::Volume row) {
  if (IsIntact(context, manager, device, request, row)) return absl::OkStatus();
  absl::Status status = ConnectAgain(context, request, row);
  if (!status.ok()) return WithContext(device.handle, status);
  const DeviceVolume volume = VolumeOf(row);
  if (manager.traits().names_devices) {
    return WithContext(device.handle, manager.AttachVolume(context, device, volume).status());
  }
  RestoreResult result = manager.Restore(
      context,
      {.device = device, .volumes = {&volume, 1}, .expose_incomplete = false, .recreate = false});
  NoteLate(core_, device.handle, result);
  // The device as a whole, with all its volumes, has to be restored first.
  if (result.is_device_missing) return Outcome::DeviceMissing(result.status);
  const RestoredVolume& restored = result.volumes.front();
  if (!restored.attachment.ok()) return WithContext(device.handle, restored.attachment.status());
  if (auto limits = core_.record->FindLimits(row.id); limits && restored.attached_again) {
    status = manager.SetQos(context, device, &volume, *limits).status();
    if (!status.ok()) return WithContext(device.handle, status);
  }
  if (*restored.attachment == row.attachment) return absl::OkStatus();
  record::Change change;
  change.put_volumes.push_back(row);
  change.put_volumes.front().attachment = *restored.attachment;
  return core_.record->Write(std::move(change), Durability::kProcess);
}

Outcome UseCases::AttachNew(const base::Context& context, DeviceManager& manager,
                            const DeviceSpec& device, const VolumeRequest& request) {
  absl::StatusOr<record::Volume> row = core_.volumes->NewRow(request, device.handle);
  if (!row.ok()) return row.status();
  record::Change intent;
  intent.put_volumes = {*row};
  absl::Status status = core_.record->Write(std::move(intent), Durability::kProcess);
  if (!status.ok()) return status;

  Outcome outcome = AttachByPlan(context, manager, device, request, *row);
  if (outcome.needs_setup()) {
    outcome = core_.volumes->Connect(context, request, *row);
    if (!outcome.ok()) return FailAttach(*row, std::move(outcome)).WithContext(device.handle);
    outcome = AttachConnected(context, manager, device, *row, /*plan=*/nullptr);
  }
  if (outcome.ok()) return outcome;
  if (!outcome.is_unknown()) {
    const Outcome released = core_.volumes->Release(spdk::UndoContext(), *row);
    if (!released.ok()) outcome = Outcome::Unknown(outcome.status());
  }
  return FailAttach(*row, std::move(outcome)).WithContext(device.handle);
}

// Never null. Needs setup: there is none for this volume and type.
OutcomeOr<std::unique_ptr<BdevPlan>> UseCases::PlanFor(const base::Context& context,
                                                       DeviceManager& manager,
                                                       const VolumeRequest& request,
                                                       record::Volume& row) {
  absl::StatusOr<std::unique_ptr<BdevPlan>> plan = nullptr;
  if (manager.traits().takes_plans) plan = core_.volumes->Plan(context, request, row);
  if (plan.ok() && *plan == nullptr) {
    return Outcome::NeedsSetup(absl::InternalError("there is no plan"));
  }
  return plan;
}

// Connects and attaches a volume in one go. Needs setup, with nothing left, where that takes more.
Outcome UseCases::AttachByPlan(const base::Context& context, DeviceManager& manager,
                               const DeviceSpec& device, const VolumeRequest& request,
                               record::Volume row) {
  OutcomeOr<std::unique_ptr<BdevPlan>> plan = PlanFor(context, manager, request, row);
  if (!plan.ok()) return plan.outcome();
  Outcome outcome = AttachConnected(context, manager, device, std::move(row), plan->get());
  if (outcome.ok() || outcome.is_unknown()) return outcome;
  return (*plan)->Undo(std::move(outcome));
}

// Attaches a volume that is connected already, or is by `plan`, and writes down that it is. It is
// not on the device after a failure, or it is unknown.
Outcome UseCases::AttachConnected(const base::Context& context, DeviceManager& manager,
                                  const DeviceSpec& device, record::Volume row, BdevPlan* plan) {
  DeviceVolume volume = VolumeOf(row);
  volume.plan = plan;
  volume.wait = core_.volumes->WaitOf(row);
  if (manager.traits().names_devices) {
    absl::Status found = WaitForBdev(core_, context, volume);
    if (!found.ok()) return found;
  }
  OutcomeOr<std::string> attachment = manager.AttachVolume(context, device, volume);
  if (!attachment.ok()) return attachment.outcome();
  row.attachment = volume.attachment = *attachment;
  volume.plan = nullptr;
  absl::Status status;
  if (auto limits = core_.record->FindLimits(row.id)) {
    status = manager.SetQos(context, device, &volume, *limits).status();
  }
  // The caller has been told that it failed if the answers came after its time.
  if (status.ok()) status = context.status();
  record::Change done;
  done.put_volumes = {InState(std::move(row), VolumeState::kAttached)};
  if (status.ok()) status = core_.record->Write(std::move(done), Durability::kHost);
  if (status.ok()) return status;
  return Outcome(std::move(status))
      .AfterUndo(manager.DetachVolume(spdk::UndoContext(), device, volume));
}

// Takes the intent back, or, when something of the call may be left on the target, has it undone
// later.
Outcome UseCases::FailAttach(const record::Volume& row, Outcome outcome) {
  const absl::Status& error = outcome.status();
  record::Change change;
  bool settled = outcome.is_settled() && !LeftLate(core_, error, {row});
  if (settled) {
    change.remove_volumes.push_back(row.id);
  } else {
    change.put_volumes.push_back(WithError(InState(row, VolumeState::kDetaching), error));
  }
  absl::Status written = core_.record->Write(std::move(change), Durability::kProcess);
  if (!written.ok()) spdlog::error("{}: {}", NameOf(row.id), written.ToString());
  if (!settled || !written.ok()) core_.wake_background();
  return outcome;
}

absl::StatusOr<DetachVolumeResponse> UseCases::DetachVolume(const base::Context& caller,
                                                            const DetachVolumeRequest& request) {
  const base::Context context = Bounded(caller);
  absl::StatusOr<base::Uuid> id = CheckVolumeId(request.volume_id());
  if (!id.ok()) return id.status();
  const std::string& handle = request.device_handle();
  std::optional<record::Device> device = core_.record->FindDevice(handle);
  DeviceManager* manager =
      device ? core_.registry.ForName(device->manager) : core_.registry.ForHandle(handle);
  if (manager == nullptr) return NoDevice(handle);
  if (manager->traits().needs_volume) {
    return absl::UnimplementedError(fmt::format("{}: its volume goes when it is deleted", handle));
  }
  auto locks = core_.locks.Acquire(
      context, {LockTable::Device(handle, /*shared=*/true), LockTable::Volume(*id)});
  if (!locks.ok()) return locks.status();
  std::optional<record::Volume> row = core_.record->FindVolume(*id);
  if (row && row->device_handle == handle) {
    absl::Status status = row->state == VolumeState::kAttached
                              ? DetachLocked(context, *row)
                              : SettleVolume(core_, context, *id, /*now=*/true);
    if (!status.ok()) return status;
  } else if (manager->traits().names_devices) {
    const DeviceVolume volume = UnknownVolume(*id);
    const DeviceSpec spec = device ? SpecOf(*device) : DeviceSpec{.handle = handle, .params = {}};
    absl::Status status = manager->DetachVolume(context, spec, volume).status();
    if (!status.ok()) return WithContext(handle, status);
  }
  return DetachVolumeResponse();
}

// Once it is written down that the volume has to go it is not taken back: what cannot be done now
// is done later.
absl::Status UseCases::DetachLocked(const base::Context& context, const record::Volume& row) {
  std::optional<record::Device> device = core_.record->FindDevice(row.device_handle);
  if (!device) return NoDevice(row.device_handle);
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core_, *device);
  if (!manager.ok()) return manager.status();
  record::Volume going = InState(row, VolumeState::kDetaching);
  record::Change intent;
  intent.put_volumes = {going};
  absl::Status status = core_.record->Write(std::move(intent), Durability::kProcess);
  if (!status.ok()) return status;
  auto guard = core_.volumes->BeginDetach(context, {row});
  const bool may_come_back =
      MayComeBack(core_, row.device_handle) || (guard != nullptr && MayActLate(core_));

  DeviceVolume volume = VolumeOf(row);
  for (const record::Volume& other : core_.record->VolumesOf(row.device_handle)) {
    // The target has given away what was its place: it has to be looked for.
    if (other.id != row.id && other.attachment == row.attachment) volume.attachment.clear();
  }
  const Outcome outcome = (*manager)->DetachVolume(context, SpecOf(*device), volume);
  guard.reset();
  status = outcome.status();
  if ((*manager)->traits().names_devices && !status.ok() && !outcome.is_unknown()) {
    // Refused by a type that knows its devices: all stays as it was.
    record::Change back;
    back.put_volumes = {row};
    core_.record->Write(std::move(back), Durability::kProcess).IgnoreError();
    return WithContext(NameOf(row.id), status);
  }
  if (status.ok()) status = core_.volumes->Release(context, row);
  record::Change change;
  if (status.ok() && may_come_back) {
    core_.wake_background();
    return status;
  }
  if (status.ok()) {
    change.remove_volumes.push_back(row.id);
    status = core_.record->Write(std::move(change), Durability::kHost);
  } else {
    change.put_volumes.push_back(WithError(going, status));
    core_.record->Write(std::move(change), Durability::kProcess).IgnoreError();
  }
  if (!status.ok()) core_.wake_background();
  return WithContext(NameOf(row.id), status);
}

}  // namespace sma::core
