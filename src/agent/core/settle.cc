#include "agent/core/settle.h"
#include "sma/outcome.h"

#include <spdlog/spdlog.h>

namespace sma::core {
namespace {

using record::DeviceState;
using record::Durability;
using record::VolumeState;
using std::chrono::steady_clock;

// How long a call waits for answers to calls before it.
constexpr std::chrono::seconds kMaxWait{5};

bool IsOld(const Core& core, record::Time since) {
  auto age = std::chrono::system_clock::now() - since;
  return age >= core.options.late_action_time || age < std::chrono::seconds(0);
}

bool MayStillAct(const Core& core, record::Time since, bool now) {
  if (MayActLate(core)) return true;
  return (!now || since < core.opened) && !IsOld(core, since);
}

// Not OK, so that it is looked at again.
absl::Status MayStillActError() {
  return absl::UnavailableError("the target may still act on a call that was given up");
}

// False when it is time to give up.
bool Pause(const Core& core, const base::Context& context, base::TimePoint give_up) {
  const base::TimePoint now = steady_clock::now();
  return now < give_up && context.SleepUntil(now + core.options.min_retry_pause / 4).ok();
}

Outcome RemoveDevice(Core& core, const base::Context& context, const record::Device& row,
                     const std::vector<record::Volume>& rows) {
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, row);
  if (!manager.ok()) return manager.status();
  const std::vector<DeviceVolume> volumes = VolumesOf(rows);
  auto guard = core.volumes->BeginDetach(context, rows);
  Outcome outcome;
  if (row.state == DeviceState::kDeleting) {
    outcome = (*manager)->DeleteDevice(context, SpecOf(row), volumes);
  } else {
    outcome =
        (*manager)->UndoCreate(context, SpecOf(row), volumes.empty() ? nullptr : &volumes.front());
  }
  guard.reset();
  return outcome.ok() ? ReleaseAll(core, context, rows) : outcome;
}

absl::Status RemoveVolume(Core& core, const base::Context& context, const record::Volume& row) {
  if (std::optional<record::Device> device = core.record->FindDevice(row.device_handle)) {
    absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *device);
    if (!manager.ok()) return manager.status();
    DeviceVolume volume = VolumeOf(row);
    volume.attachment.clear();
    auto guard = core.volumes->BeginDetach(context, {row});
    absl::Status status = (*manager)->DetachVolume(context, SpecOf(*device), volume).status();
    if (!status.ok()) return status;
  }
  return core.volumes->Release(context, row);
}

}  // namespace

absl::Status ReleaseAll(Core& core, const base::Context& context,
                        const std::vector<record::Volume>& rows) {
  absl::Status first;
  for (const record::Volume& row : rows) first.Update(core.volumes->Release(context, row));
  return first;
}

Outcome SettleDevice(Core& core, const base::Context& context, const std::string& handle,
                     bool now) {
  const base::TimePoint give_up = steady_clock::now() + kMaxWait;
  while (true) {
    std::optional<record::Device> row = core.record->FindDevice(handle);
    if (!row || row->state == DeviceState::kReady) return absl::OkStatus();
    // Asked before the target is: what it has then is all that there will be.
    const bool may_act = MayStillAct(core, row->state_since, now);
    const std::vector<record::Volume> rows = core.record->VolumesOf(handle);
    const Outcome outcome = RemoveDevice(core, context, *row, rows);
    const absl::Status& status = outcome.status();
    if (may_act && now && absl::IsUnavailable(status) && Pause(core, context, give_up)) continue;
    record::Change change;
    if (!status.ok()) {
      // The caller of a removal that goes on is told of success, which outlives the host.
      const bool goes_on = row->state == DeviceState::kDeleting && outcome.is_under_way();
      change.put_devices.push_back(WithError(*row, status));
      absl::Status written =
          core.record->Write(std::move(change), goes_on ? Durability::kHost : Durability::kProcess);
      return goes_on && !written.ok() ? written : outcome.WithContext(handle);
    }
    if (!may_act) {
      change.remove_devices.push_back(handle);
      change.remove_limits.push_back(LimitsKeyOf(handle));
      for (const record::Volume& volume : rows) change.remove_volumes.push_back(volume.id);
      spdlog::info("{}: what an unfinished call had left is gone", handle);
      return core.record->Write(std::move(change), Durability::kHost);
    }
    if (!now || !Pause(core, context, give_up)) return WithContext(handle, MayStillActError());
  }
}

absl::Status SettleVolume(Core& core, const base::Context& context, const base::Uuid& id,
                          bool now) {
  const base::TimePoint give_up = steady_clock::now() + kMaxWait;
  const std::string name = "volume " + id.ToString();
  while (true) {
    std::optional<record::Volume> row = core.record->FindVolume(id);
    if (!row || row->state == VolumeState::kAttached) return absl::OkStatus();
    const bool may_act = MayStillAct(core, row->state_since, now);
    absl::Status status = RemoveVolume(core, context, *row);
    if (may_act && now && absl::IsUnavailable(status) && Pause(core, context, give_up)) continue;
    record::Change change;
    if (!status.ok()) {
      change.put_volumes.push_back(WithError(*row, status));
      core.record->Write(std::move(change), Durability::kProcess).IgnoreError();
      return WithContext(name, status);
    }
    if (!may_act) {
      change.remove_volumes.push_back(id);
      spdlog::info("{}: what an unfinished call had left is gone", name);
      return core.record->Write(std::move(change), Durability::kHost);
    }
    if (!now || !Pause(core, context, give_up)) return WithContext(name, MayStillActError());
  }
}

}  // namespace sma::core
