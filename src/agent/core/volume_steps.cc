// SPDX-License-Identifier: Apache-2.0

#include "agent/core/volume_steps.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "agent/core/qos_limits.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/call.h"
#include "agent/spdk/firm_deadline.h"
#include "agent/spdk/qos.h"

namespace sma::core {

using record::Durability;
using record::VolumeState;

namespace {

// Returns the volume to be exported, which is either already connected or is connected by `plan`.
DeviceVolume ToExport(const Core& core, const record::Volume& row, BdevPlan* plan) {
  DeviceVolume volume = VolumeOf(row);
  volume.wait = core.volumes->BdevWaitOf(row);
  volume.plan = plan;
  return volume;
}

// Returns "needs setup", with nothing left on the target, if there is no plan or the plan is not
// enough.
Outcome ExportByPlan(Core& core, const base::Context& context, const DeviceManager& manager,
                     const VolumeRequest& request, record::Volume& row,
                     const Export& export_volume) {
  record::Volume planned = row;
  absl::StatusOr<std::unique_ptr<BdevPlan>> plan = nullptr;
  if (manager.traits().takes_plans) plan = core.volumes->Plan(context, request, planned);
  if (!plan.ok()) return plan.status();
  if (*plan == nullptr) return Outcome::NeedsSetup(absl::InternalError("there is no plan"));
  Outcome outcome = export_volume(ToExport(core, planned, plan->get()));
  if (outcome.ok()) row = std::move(planned);
  return outcome.ok() || outcome.is_unknown() ? outcome : (*plan)->Undo(std::move(outcome));
}

// Removes limits that were set through the agent, and keeps those set by other clients.
absl::Status RemoveLimits(Core& core, const base::Context& context, const DeviceManager& manager,
                          const record::Volume& row) {
  const std::optional<QosLimit> limits = core.record->FindLimits(row.id);
  if (!limits || manager.traits().names_devices) return absl::OkStatus();
  absl::StatusOr<spdk::RateLimits> none = spdk::ToRateLimits(Unlimited(*limits));
  if (!none.ok()) return none.status();
  absl::Status status = spdk::SetQosLimits(core.target, context, row.bdev_name, *none);
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace

Outcome ConnectAndExport(Core& core, const base::Context& context, Operation& operation,
                         DeviceManager& manager, const VolumeRequest& request, record::Volume& row,
                         const Export& export_volume) {
  if (absl::Status status = core.volumes->CheckLayers(row); !status.ok()) return status;
  Outcome outcome = ExportByPlan(core, context, manager, request, row, export_volume);
  const bool is_planned = !outcome.needs_setup();
  if (!is_planned) outcome = core.volumes->Connect(context, request, row);
  if (!outcome.ok()) return outcome;
  operation.OnUndo([&core, &manager, row](const base::Context& undo) -> Outcome {
    return ReleaseAll(core, undo, manager, {row});
  });
  if (is_planned) return outcome;
  const DeviceVolume volume = ToExport(core, row, /*plan=*/nullptr);
  absl::Status found = WaitForBdev(core, context, manager, volume);
  return found.ok() ? export_volume(volume) : found;
}

absl::Status WaitForBdev(Core& core, const base::Context& context, const DeviceManager& manager,
                         const DeviceVolume& volume) {
  if (!manager.traits().names_devices) return absl::OkStatus();
  auto bdev = spdk::FindBdev(core.target, context, volume.bdev_name, volume.wait);
  if (!bdev.ok() || *bdev) return bdev.status();
  return absl::NotFoundError(fmt::format("volume {} was not found", volume.id.ToString()));
}

absl::Status ApplyLimits(Core& core, const base::Context& context, DeviceManager& manager,
                         const DeviceSpec& device, const DeviceVolume& volume) {
  const std::optional<QosLimit> limits = core.record->FindLimits(volume.id);
  if (!limits) return absl::OkStatus();
  return manager.SetQos(context, device, &volume, *limits).status();
}

absl::Status RepeatConnect(Core& core, const base::Context& context, const VolumeRequest& request,
                           record::Volume& row) {
  const record::Volume before = row;
  absl::Status status = core.volumes->RepeatConnect(context, request, row);
  if (record::SameConnection(row, before)) return status;
  record::Change change;
  change.put_volumes.push_back(row);
  status.Update(core.record->Write(std::move(change), Durability::kHost));
  return status;
}

absl::Status FinishRepeat(Core& core, const record::Volume& row, const std::string& attachment) {
  if (row.attachment == attachment && row.last_error.code == absl::StatusCode::kOk) {
    return absl::OkStatus();
  }
  // Others may have added connections to the row since it was read.
  auto make = [&] {
    record::Change change;
    std::optional<record::Volume> now = core.record->FindVolume(row.id);
    if (!now) return change;
    now->attachment = attachment;
    change.put_volumes.push_back(WithError(*std::move(now), absl::OkStatus()));
    return change;
  };
  return core.record->Update(make, Durability::kProcess);
}

bool IsIntact(Core& core, const base::Context& context, DeviceManager& manager,
              const DeviceSpec& device, const VolumeRequest& request, const record::Volume& row) {
  if (manager.traits().names_devices || !core.volumes->MatchesRecord(request, row)) return false;
  // The error may concern the layer, which the device does not check.
  if (row.last_error.code != absl::StatusCode::kOk) return false;
  const DeviceVolume volume = VolumeOf(row);
  const RestoreResult found =
      manager.Restore(context, {.device = device, .volumes = {&volume, 1}, .repair = false});
  const absl::StatusOr<std::string>& attachment = found.volumes.front().attachment;
  return found.status.ok() && found.differences.empty() && attachment.ok() &&
         *attachment == row.attachment;
}

absl::Status WhyNotExported(Core& core, const base::Context& context, const record::Volume& row,
                            absl::Status status) {
  absl::StatusOr<std::optional<spdk::Bdev>> bdev =
      spdk::FindBdev(core.target, context, row.id.ToString(), std::chrono::nanoseconds(0));
  return bdev.ok() && !*bdev ? core.volumes->WhyMissing(row) : status;
}

Outcome AttachNew(Core& core, const base::Context& context, DeviceManager& manager,
                  const DeviceSpec& device, const VolumeRequest& request) {
  absl::StatusOr<record::Volume> row = core.volumes->NewRow(request, device.handle);
  if (!row.ok()) return row.status();
  Operation operation(core, context, device.handle);
  operation.Attach(*row);
  if (absl::Status status = operation.Begin(); !status.ok()) return status;

  std::string attachment;
  Outcome outcome = ConnectAndExport(
      core, context, operation, manager, request, *row, [&](const DeviceVolume& volume) -> Outcome {
        OutcomeOr<std::string> attached = manager.AttachVolume(context, device, volume);
        if (attached.ok()) attachment = *attached;
        return attached.outcome();
      });
  if (!outcome.ok()) return operation.Abandon(std::move(outcome));
  row->attachment = attachment;
  const DeviceVolume volume = VolumeOf(*row);
  // A namespace that an operator added earlier is kept if this call fails.
  if (!outcome.was_there()) {
    operation.OnUndo([&manager, device, volume](const base::Context& undo) {
      return manager.DetachVolume(undo, device, volume);
    });
  }
  outcome = ApplyLimits(core, context, manager, device, volume);
  if (!outcome.ok()) return operation.Abandon(std::move(outcome));
  record::Change done;
  done.put_volumes = {InState(*std::move(row), VolumeState::kAttached)};
  AddLimits(core, done.put_volumes.front(), done);
  return operation.Commit(std::move(done));
}

Outcome RemoveFromDevice(Core& core, const base::Context& context,
                         const std::vector<record::Volume>& rows,
                         const std::function<Outcome(const base::Context& limited)>& remove) {
  if (std::none_of(rows.begin(), rows.end(), volume::IsRemote)) return remove(context);
  auto guard = core.volumes->BeginDetach(context, rows);
  const base::Context limited =
      context.Child(std::chrono::steady_clock::now() + core.options.removal_time);
  const Outcome outcome = [&] {
    const spdk::FirmDeadline firm;
    return remove(limited);
  }();
  guard.reset();
  const bool is_over_time = limited.done() && !context.done();
  if (outcome.is_under_way() || !is_over_time || !core.target_status().ok()) return outcome;
  if (outcome.is_unknown()) {
    return Outcome::UnderWay(absl::UnavailableError(
        "the device is still waiting for outstanding I/O to a storage node: " + outcome.message()));
  }
  // Only the guest of the device's VM can cause this: it has not released the device yet.
  if (!absl::IsDeadlineExceeded(outcome.status())) return outcome;
  return Outcome::UnderWay(absl::UnavailableError(outcome.message()));
}

absl::Status ReleaseAll(Core& core, const base::Context& context, const DeviceManager& manager,
                        const std::vector<record::Volume>& rows) {
  absl::Status first;
  for (const record::Volume& row : rows) {
    absl::Status status = RemoveLimits(core, context, manager, row);
    if (status.ok()) status = core.volumes->Release(context, row);
    first.Update(std::move(status));
  }
  return first;
}

}  // namespace sma::core
