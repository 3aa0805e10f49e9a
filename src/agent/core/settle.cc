#include "agent/core/settle.h"

#include <spdlog/spdlog.h>

#include <functional>

#include "agent/core/operation.h"
#include "agent/core/volume_steps.h"

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

// Not OK, so that it is looked at again.
absl::Status MayStillActError() {
  return absl::UnavailableError("the target may still act on a call that was given up");
}

// False when it is time to give up.
bool Pause(const Core& core, const base::Context& context, base::TimePoint give_up) {
  const base::TimePoint now = steady_clock::now();
  return now < give_up && context.SleepUntil(now + core.options.min_retry_pause / 4).ok();
}

// As VolumeOf, also for one whose attach was not finished: its device may export the layer.
absl::StatusOr<DeviceVolume> ToRemove(Core& core, const base::Context& context,
                                      const record::Volume& row) {
  DeviceVolume volume = VolumeOf(row);
  absl::StatusOr<std::string> name = core.volumes->FindBdevName(context, row);
  if (!name.ok()) return name.status();
  volume.bdev_name = *std::move(name);
  return volume;
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
  auto guard = core.volumes->BeginDetach(context, rows);
  Outcome outcome;
  if (row.state == DeviceState::kDeleting) {
    outcome = (*manager)->DeleteDevice(context, SpecOf(row), volumes);
  } else {
    outcome =
        (*manager)->UndoCreate(context, SpecOf(row), volumes.empty() ? nullptr : &volumes.front());
  }
  guard.reset();
  return outcome.ok() ? ReleaseAll(core, context, **manager, rows) : outcome;
}

Outcome RemoveVolume(Core& core, const base::Context& context, const record::Volume& row) {
  std::optional<record::Device> device = core.record->FindDevice(row.device_handle);
  if (!device) return core.volumes->Release(context, row);
  absl::StatusOr<DeviceManager*> manager = ManagerOf(core, *device);
  if (!manager.ok()) return manager.status();
  absl::StatusOr<DeviceVolume> volume = ToRemove(core, context, row);
  if (!volume.ok()) return volume.status();
  auto guard = core.volumes->BeginDetach(context, {row});
  Outcome outcome = (*manager)->DetachVolume(context, SpecOf(*device), *volume);
  guard.reset();
  return outcome.ok() ? ReleaseAll(core, context, **manager, {row}) : outcome;
}

/// What is left of an operation, and how it is removed.
struct Leftover {
  record::Time since;
  std::vector<std::string> objects;
  std::function<Outcome()> remove;
  /// Writes why it could not be removed.
  std::function<absl::Status(const Outcome& why)> keep;
  record::Change gone;
};

/// nullopt: nothing is left.
using FindLeftover = std::function<std::optional<Leftover>()>;

Outcome Settle(Core& core, const base::Context& context, const std::string& name, bool now,
               const FindLeftover& find) {
  const base::TimePoint give_up = steady_clock::now() + kMaxWait;
  while (true) {
    std::optional<Leftover> left = find();
    if (!left) return {};
    const jsonrpc::CallScope scope(left->objects);
    // Asked before the target is: what it has then is all that there will be.
    const bool may_act = MayActLate(core, left->objects) ||
                         ((!now || left->since < core.opened) && !IsOld(core, left->since));
    const Outcome outcome = left->remove();
    if (may_act && now && absl::IsUnavailable(outcome.status()) && Pause(core, context, give_up)) {
      continue;
    }
    if (!outcome.ok()) {
      absl::Status written = left->keep(outcome);
      return written.ok() ? outcome.WithContext(name) : Outcome(std::move(written));
    }
    if (!may_act) {
      spdlog::info("{}: removed what an unfinished call had left", name);
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
    // The caller of a removal that is under way is told of success, which outlives the host.
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

}  // namespace

Outcome SettleDevice(Core& core, const base::Context& context, const std::string& handle,
                     bool now) {
  return Settle(core, context, handle, now, [&] { return LeftOfDevice(core, context, handle); });
}

absl::Status SettleVolume(Core& core, const base::Context& context, const base::Uuid& id,
                          bool now) {
  return Settle(core, context, "volume " + id.ToString(), now,
                [&] { return LeftOfVolume(core, context, id); })
      .status();
}

}  // namespace sma::core
