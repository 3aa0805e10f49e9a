#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "agent/core/restore.h"
#include "agent/core/settle.h"
#include "agent/core/use_cases.h"
#include "agent/spdk/call.h"
#include "jsonrpc/error.h"

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
  return manager != nullptr && manager->autonomous() != nullptr;
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
  status = AttachOnce(context, handle, *volume);
  if (!status.ok() && IsAutonomous(core_, handle)) {
    ForgetUnused(context, handle);
  } else if (absl::IsFailedPrecondition(status)) {
    // The target has lost the device, and it was not yet its turn to be made again.
    RestoreDevice(core_, context, handle, {.expose_incomplete = false}).IgnoreError();
    status = AttachOnce(context, handle, *volume);
    if (absl::IsFailedPrecondition(status)) status = absl::UnavailableError(status.message());
  }
  if (!status.ok()) return status;
  return AttachVolumeResponse();
}

absl::Status UseCases::AttachOnce(const base::Context& context, const std::string& handle,
                                  const VolumeRequest& volume) {
  auto locks = core_.locks.Acquire(
      context, {LockTable::Device(handle, /*shared=*/true), LockTable::Volume(volume.id)});
  if (!locks.ok()) return locks.status();
  std::optional<record::Device> device = core_.record->FindDevice(handle);
  if (!device || device->state != DeviceState::kReady) return NoDevice(handle);
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core_, *device);
  if (!manager.ok()) return manager.status();
  if ((*manager)->needs_volume()) {
    return absl::UnimplementedError(
        fmt::format("{}: its volume is given when it is created", handle));
  }
  return AttachLocked(context, **manager, SpecOf(*device), volume);
}

absl::Status UseCases::AttachLocked(const base::Context& context, DeviceManager& manager,
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
  if (manager.autonomous() != nullptr || !core_.volumes->IsKnownSame(request, row)) return false;
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

absl::Status UseCases::VerifyAttached(const base::Context& context, DeviceManager& manager,
                                      const DeviceSpec& device, const VolumeRequest& request,
                                      record::Volume row) {
  if (IsIntact(context, manager, device, request, row)) return absl::OkStatus();
  absl::Status status = ConnectAgain(context, request, row);
  if (!status.ok()) return About(device.handle, status);
  const DeviceVolume volume = VolumeOf(row);
  if (manager.autonomous() != nullptr) {
    return About(device.handle, manager.AttachVolume(context, device, volume).status());
  }
  RestoreResult result = manager.Restore(
      context, {.device = device, .volumes = {&volume, 1}, .expose_incomplete = false});
  NoteLate(core_, device.handle, result);
  const RestoredVolume& restored = result.volumes.front();
  if (!restored.attachment.ok()) return About(device.handle, restored.attachment.status());
  if (auto limits = core_.record->FindLimits(row.id); limits && restored.attached_again) {
    status = manager.SetQos(context, device, &volume, *limits);
    if (!status.ok()) return About(device.handle, status);
  }
  if (*restored.attachment == row.attachment) return absl::OkStatus();
  record::Change change;
  change.put_volumes.push_back(row);
  change.put_volumes.front().attachment = *restored.attachment;
  return core_.record->Write(std::move(change), Durability::kProcess);
}

absl::Status UseCases::AttachNew(const base::Context& context, DeviceManager& manager,
                                 const DeviceSpec& device, const VolumeRequest& request) {
  absl::StatusOr<record::Volume> row = core_.volumes->NewRow(request, device.handle);
  if (!row.ok()) return row.status();
  record::Change intent;
  intent.put_volumes = {*row};
  absl::Status status = core_.record->Write(std::move(intent), Durability::kProcess);
  if (!status.ok()) return status;

  status = AttachByPlan(context, manager, device, request, *row);
  if (absl::IsAborted(status) && !jsonrpc::IsFateUnknown(status)) {
    status = core_.volumes->Connect(context, request, *row);
    if (!status.ok()) return About(device.handle, FailAttach(*row, status));
    status = AttachConnected(context, manager, device, *row, /*plan=*/nullptr);
  }
  if (status.ok()) return status;
  if (!jsonrpc::IsFateUnknown(status)) {
    absl::Status released = core_.volumes->Release(spdk::UndoContext(), *row);
    if (!released.ok()) status = jsonrpc::WithFateUnknown(std::move(status));
  }
  return About(device.handle, FailAttach(*row, status));
}

// Never null. ABORTED: there is none for this volume and type.
absl::StatusOr<std::unique_ptr<BdevPlan>> UseCases::PlanFor(const base::Context& context,
                                                            DeviceManager& manager,
                                                            const VolumeRequest& request,
                                                            record::Volume& row) {
  absl::StatusOr<std::unique_ptr<BdevPlan>> plan = nullptr;
  if (manager.takes_plans()) plan = core_.volumes->Plan(context, request, row);
  if (plan.ok() && *plan == nullptr) return absl::AbortedError("there is no plan");
  return plan;
}

// Connects and attaches a volume in one go. ABORTED, and nothing is left: it takes more than that.
absl::Status UseCases::AttachByPlan(const base::Context& context, DeviceManager& manager,
                                    const DeviceSpec& device, const VolumeRequest& request,
                                    record::Volume row) {
  absl::StatusOr<std::unique_ptr<BdevPlan>> plan = PlanFor(context, manager, request, row);
  if (!plan.ok()) return plan.status();
  absl::Status status = AttachConnected(context, manager, device, std::move(row), plan->get());
  if (status.ok() || jsonrpc::IsFateUnknown(status)) return status;
  return (*plan)->Undo(std::move(status));
}

// Attaches a volume that is connected already, or is by `plan`, and writes down that it is. It is
// not on the device after a failure, or the status says so.
absl::Status UseCases::AttachConnected(const base::Context& context, DeviceManager& manager,
                                       const DeviceSpec& device, record::Volume row,
                                       BdevPlan* plan) {
  DeviceVolume volume = VolumeOf(row);
  volume.plan = plan;
  volume.wait = core_.volumes->WaitOf(row);
  if (manager.autonomous() != nullptr) {
    absl::Status found = WaitForBdev(core_, context, volume);
    if (!found.ok()) return found;
  }
  absl::StatusOr<std::string> attachment = manager.AttachVolume(context, device, volume);
  if (!attachment.ok()) return attachment.status();
  row.attachment = volume.attachment = *attachment;
  volume.plan = nullptr;
  absl::Status status;
  if (auto limits = core_.record->FindLimits(row.id)) {
    status = manager.SetQos(context, device, &volume, *limits);
  }
  // The caller has been told that it failed if the answers came after its time.
  if (status.ok()) status = context.status();
  record::Change done;
  done.put_volumes = {InState(std::move(row), VolumeState::kAttached)};
  if (status.ok()) status = core_.record->Write(std::move(done), Durability::kHost);
  if (status.ok()) return status;
  absl::Status undone = manager.DetachVolume(spdk::UndoContext(), device, volume);
  return undone.ok() ? status : jsonrpc::WithFateUnknown(std::move(status));
}

// Takes the intent back, or, when something of the call may be left on the target, has it undone
// later.
absl::Status UseCases::FailAttach(const record::Volume& row, const absl::Status& error) {
  record::Change change;
  bool settled = !jsonrpc::IsFateUnknown(error) && !LeftLate(core_, error, {row});
  if (settled) {
    change.remove_volumes.push_back(row.id);
  } else {
    change.put_volumes.push_back(WithError(InState(row, VolumeState::kDetaching), error));
  }
  absl::Status written = core_.record->Write(std::move(change), Durability::kProcess);
  if (!written.ok()) spdlog::error("{}: {}", NameOf(row.id), written.ToString());
  if (!settled || !written.ok()) core_.wake_background();
  return error;
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
  if (manager->needs_volume()) {
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
  } else if (manager->autonomous() != nullptr) {
    const DeviceVolume volume = UnknownVolume(*id);
    const DeviceSpec spec = device ? SpecOf(*device) : DeviceSpec{.handle = handle, .params = {}};
    absl::Status status = manager->DetachVolume(context, spec, volume);
    if (!status.ok()) return About(handle, status);
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
  status = (*manager)->DetachVolume(context, SpecOf(*device), volume);
  guard.reset();
  if ((*manager)->autonomous() != nullptr && !status.ok() && !jsonrpc::IsFateUnknown(status)) {
    // Refused by a type that knows its devices: all stays as it was.
    record::Change back;
    back.put_volumes = {row};
    core_.record->Write(std::move(back), Durability::kProcess).IgnoreError();
    return About(NameOf(row.id), status);
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
  return About(NameOf(row.id), status);
}

}  // namespace sma::core
