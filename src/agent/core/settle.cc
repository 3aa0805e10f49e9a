// SPDX-License-Identifier: Apache-2.0

#include "agent/core/settle.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <functional>

#include "agent/core/operation.h"
#include "agent/core/volume_steps.h"

namespace sma::core {
namespace {

using record::DeviceState;
using record::Durability;
using record::VolumeState;
using std::chrono::steady_clock;

// How long a call waits for the target to answer earlier calls.
constexpr std::chrono::seconds kMaxWait{5};

bool IsOld(const Core& core, record::Time since) {
  auto age = std::chrono::system_clock::now() - since;
  return age >= core.options.late_action_time || age < std::chrono::seconds(0);
}

// Returned as an error, so that the background thread retries.
absl::Status MayStillActError() {
  return absl::UnavailableError("the target may still act on an earlier call that was abandoned");
}

// Sleeps briefly. Returns false if the wait must end.
bool Pause(const Core& core, const base::Context& context, base::TimePoint give_up) {
  const base::TimePoint now = steady_clock::now();
  return now < give_up && context.SleepUntil(now + core.options.min_retry_pause / 4).ok();
}

// Like VolumeOf, but also handles a device that exports the layer of a volume whose attach did not
// finish.
absl::StatusOr<DeviceVolume> ToRemove(Core& core, const base::Context& context,
                                      const record::Volume& row) {
  DeviceVolume volume = VolumeOf(row);
  absl::StatusOr<std::string> name = core.volumes->FindBdevName(context, row);
  if (!name.ok()) return name.status();
  volume.bdev_name = *std::move(name);
  return volume;
}

// Returns true if an earlier removal of the volumes is still waiting for a storage node that is
// down. Releases connections on which no other volume depends, which ends the wait.
bool IsStuck(Core& core, const base::Context& context, const std::vector<record::Volume>& rows) {
  return std::any_of(rows.begin(), rows.end(), [&](const record::Volume& row) {
    if (!core.volumes->IsDown(row) || !MayActLate(core, {ObjectOf(row.id)})) return false;
    core.volumes->BeginDetach(context, {row}).reset();
    return true;
  });
}

Outcome StillStuck() {
  return Outcome::UnderWay(
      absl::UnavailableError("the device is still waiting for outstanding I/O to a storage node"));
}

Outcome RemoveDevice(Core& core, const base::Context& context, const record::Device& row,
                     const std::vector<record::Volume>& rows) {
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, row);
  if (!manager.ok()) return manager.status();
  std::vector<DeviceVolume> volumes;
  for (const record::Volume& volume : rows) {
    absl::StatusOr<DeviceVolume> to_remove = ToRemove(core, context, volume);
    if (!to_remove.ok()) return to_remove.status();
    volumes.push_back(*std::move(to_remove));
  }
  if (IsStuck(core, context, rows)) return StillStuck();
  Outcome outcome = RemoveFromDevice(core, context, rows, [&](const base::Context& limited) {
    if (row.state == DeviceState::kDeleting) {
      return (*manager)->DeleteDevice(limited, SpecOf(row), volumes);
    }
    return (*manager)->UndoCreate(limited, SpecOf(row),
                                  volumes.empty() ? nullptr : &volumes.front());
  });
  return outcome.ok() ? ReleaseAll(core, context, **manager, rows) : outcome;
}

Outcome RemoveVolume(Core& core, const base::Context& context, const record::Volume& row) {
  std::optional<record::Device> device = core.record->FindDevice(row.device_handle);
  if (!device) return core.volumes->Release(context, row);
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *device);
  if (!manager.ok()) return manager.status();
  absl::StatusOr<DeviceVolume> volume = ToRemove(core, context, row);
  if (!volume.ok()) return volume.status();
  if (IsStuck(core, context, {row})) return StillStuck();
  // Without its layer, nothing of an encrypted volume can be exported: if the device exports the
  // base bdev, another client configured that.
  const bool has_layer = volume->bdev_name != row.id.ToString();
  const bool is_unfinished = row.attachment.empty() && !(*manager)->traits().names_devices;
  if (row.params.has_crypto() && is_unfinished && !has_layer) {
    return ReleaseAll(core, context, **manager, {row});
  }
  Outcome outcome = RemoveFromDevice(core, context, {row}, [&](const base::Context& limited) {
    return (*manager)->DetachVolume(limited, SpecOf(*device), *volume);
  });
  return outcome.ok() ? ReleaseAll(core, context, **manager, {row}) : outcome;
}

/// The remains of an unfinished operation, and how to remove them.
struct Leftover {
  record::Time since;
  std::vector<std::string> objects;
  std::function<Outcome()> remove;
  /// Records in the object's row why the leftover could not be removed.
  std::function<absl::Status(const Outcome& why)> keep;
  record::Change gone;
};

/// Finds what an operation left behind. Returns nullopt if nothing is left.
using FindLeftover = std::function<std::optional<Leftover>()>;

Outcome Settle(Core& core, const base::Context& context, const std::string& name, bool now,
               const FindLeftover& find) {
  const base::TimePoint give_up = steady_clock::now() + kMaxWait;
  while (true) {
    std::optional<Leftover> left = find();
    if (!left) return {};
    const jsonrpc::CallScope scope(left->objects);
    // Checked before the target is queried: the removal is final only if no earlier call can
    // still take effect.
    const bool may_act = MayActLate(core, left->objects) ||
                         ((!now || left->since < core.opened) && !IsOld(core, left->since));
    const Outcome outcome = left->remove();
    const bool is_retried =
        may_act && now && absl::IsUnavailable(outcome.status()) && !outcome.is_under_way();
    if (is_retried && Pause(core, context, give_up)) continue;
    if (!outcome.ok()) {
      absl::Status written = left->keep(outcome);
      return written.ok() ? outcome.WithContext(name) : Outcome(std::move(written));
    }
    if (!may_act) {
      spdlog::info("{}: removed what an unfinished call left behind", name);
      return core.record->Write(std::move(left->gone), Durability::kHost);
    }
    if (!now || !Pause(core, context, give_up)) return WithContext(name, MayStillActError());
  }
}

std::optional<Leftover> LeftOfDevice(Core& core, const base::Context& context,
                                     const std::string& handle) {
  std::optional<record::Device> row = core.record->FindDevice(handle);
  if (!row || row->state == DeviceState::kReady) return std::nullopt;
  const std::vector<record::Volume> rows = core.record->VolumesOf(handle);
  Leftover left;
  left.since = row->state_since;
  left.objects = ObjectsOf(handle, rows);
  left.remove = [&core, &context, row = *row, rows] {
    return RemoveDevice(core, context, row, rows);
  };
  left.keep = [&core, row = *row](const Outcome& why) -> absl::Status {
    // A removal that is under way is reported to the caller as successful, so the row must survive
    // a crash of the host.
    const bool goes_on = row.state == DeviceState::kDeleting && why.is_under_way();
    record::Change change;
    change.put_devices.push_back(WithError(row, why.status()));
    absl::Status written =
        core.record->Write(std::move(change), goes_on ? Durability::kHost : Durability::kProcess);
    return goes_on ? written : absl::OkStatus();
  };
  AddRemoval(core, *row, left.gone);
  for (const record::Volume& volume : rows) AddRemoval(core, volume, left.gone);
  return left;
}

std::optional<Leftover> LeftOfVolume(Core& core, const base::Context& context,
                                     const base::Uuid& id) {
  std::optional<record::Volume> row = core.record->FindVolume(id);
  if (!row || row->state == VolumeState::kAttached) return std::nullopt;
  Leftover left;
  left.since = row->state_since;
  left.objects = {ObjectOf(id)};
  left.remove = [&core, &context, row = *row] { return RemoveVolume(core, context, row); };
  left.keep = [&core, row = *row](const Outcome& why) -> absl::Status {
    record::Change change;
    change.put_volumes.push_back(WithError(row, why.status()));
    core.record->Write(std::move(change), Durability::kProcess).IgnoreError();
    return absl::OkStatus();
  };
  AddRemoval(core, *row, left.gone);
  return left;
}

// Returns the attachment of a volume if the device exports the volume on the target; otherwise an
// error or an empty string.
absl::StatusOr<std::string> FindAttachment(const base::Context& context, DeviceManager& manager,
                                           const record::Device& device,
                                           const record::Volume& row) {
  const DeviceVolume volume = VolumeOf(row);
  RestoreResult found = manager.Restore(
      context,
      {.device = SpecOf(device), .volumes = {&volume, 1}, .repair = false, .recreate = false});
  return std::move(found.volumes.front().attachment);
}

// Returns the change for a volume that was found to be attached; its limits are set again.
record::Change AttachedChange(Core& core, record::Volume row, std::string attachment) {
  core.unset_limits.Add(row.id);
  record::Change change;
  change.put_volumes.push_back(InState(std::move(row), VolumeState::kAttached));
  change.put_volumes.front().attachment = std::move(attachment);
  AddLimits(core, change.put_volumes.front(), change);
  return change;
}

// Finishes an attach that was interrupted by the end of the agent. If the device exports the
// volume, either the attach or an operator has added the namespace; AttachVolume adopts the
// namespace of an operator. The two cases cannot be told apart, so nothing is removed, and the
// attach counts as done.
absl::Status FinishAttach(Core& core, const base::Context& context, const base::Uuid& id) {
  std::optional<record::Volume> row = core.record->FindVolume(id);
  const bool is_left =
      row && row->state == VolumeState::kAttaching && row->state_since < core.opened;
  // A layer has a name that only the agent uses, so an encrypted volume is exported only by the
  // agent.
  if (!is_left || row->params.has_crypto()) return absl::OkStatus();
  std::optional<record::Device> device = core.record->FindDevice(row->device_handle);
  if (!device || device->state != DeviceState::kReady) return absl::OkStatus();
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *device);
  if (!manager.ok() || (*manager)->traits().names_devices || (*manager)->traits().needs_volume) {
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> attachment = FindAttachment(context, **manager, *device, *row);
  if (!attachment.ok() || attachment->empty()) return absl::OkStatus();
  spdlog::info("volume {}: finished the attach that an earlier run of the agent began",
               id.ToString());
  return core.record->Write(AttachedChange(core, *std::move(row), *std::move(attachment)),
                            Durability::kHost);
}

// Like FinishAttach, for the creation of a device that needs a volume and whose object on the
// target has no mark. An object with the device's name and the volume's bdev may be an operator's,
// which CreateDevice also adopts. Nothing is removed, and the device counts as created; its missing
// parts are added by a comparison, which is due at once.
absl::Status FinishCreate(Core& core, const base::Context& context, const std::string& handle) {
  std::optional<record::Device> row = core.record->FindDevice(handle);
  const bool is_left =
      row && row->state == DeviceState::kCreating && row->state_since < core.opened;
  if (!is_left) return absl::OkStatus();
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *row);
  if (!manager.ok() || !(*manager)->traits().needs_volume || (*manager)->traits().names_devices) {
    return absl::OkStatus();
  }
  const std::vector<record::Volume> rows = core.record->VolumesOf(handle);
  if (rows.size() != 1 || rows.front().params.has_crypto()) return absl::OkStatus();
  absl::StatusOr<std::string> attachment = FindAttachment(context, **manager, *row, rows.front());
  if (!attachment.ok() || attachment->empty()) return absl::OkStatus();
  spdlog::info("{}: finished the creation that an earlier run of the agent began", handle);
  record::Change change = AttachedChange(core, rows.front(), *std::move(attachment));
  change.put_devices.push_back(InState(*std::move(row), DeviceState::kReady));
  absl::Status status = core.record->Write(std::move(change), Durability::kHost);
  if (status.ok()) core.wake_background(handle);
  return status;
}

}  // namespace

Outcome SettleDevice(Core& core, const base::Context& context, const std::string& handle,
                     bool now) {
  if (absl::Status status = FinishCreate(core, context, handle); !status.ok()) return status;
  return Settle(core, context, handle, now, [&] { return LeftOfDevice(core, context, handle); });
}

Outcome SettleVolume(Core& core, const base::Context& context, const base::Uuid& id, bool now) {
  if (absl::Status status = FinishAttach(core, context, id); !status.ok()) return status;
  return Settle(core, context, "volume " + id.ToString(), now,
                [&] { return LeftOfVolume(core, context, id); });
}

}  // namespace sma::core
