// SPDX-License-Identifier: Apache-2.0

#include "agent/core/operation.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "agent/core/qos_limits.h"
#include "agent/spdk/call.h"
#include "base/lock_table.h"

namespace sma::core {

using record::DeviceState;
using record::Durability;
using record::VolumeState;

std::string ObjectOf(std::string_view device_handle) {
  return LockTable::Device(device_handle).name;
}
std::string ObjectOf(const base::Uuid& volume) { return LockTable::Volume(volume).name; }

std::vector<std::string> ObjectsOf(std::string_view device_handle,
                                   const std::vector<record::Volume>& volumes) {
  std::vector<std::string> objects = {ObjectOf(device_handle)};
  for (const record::Volume& volume : volumes) objects.push_back(ObjectOf(volume.id));
  return objects;
}

bool MayActLate(const Core& core, const std::vector<std::string>& objects) {
  return core.target.MayActLate(objects, core.options.late_action_time);
}

Operation::Operation(Core& core, const base::Context& context, std::string name)
    : core_(core), context_(context), name_(std::move(name)) {}

Operation::~Operation() {
  if (!is_open_) return;
  Abandon(Outcome::Unknown(absl::InternalError("the operation was left unfinished"))).IgnoreError();
}

void Operation::Create(record::Device row) {
  objects_.push_back(ObjectOf(row.handle));
  handles_.insert(row.handle);
  devices_.push_back({.before = std::nullopt,
                      .intent = row,
                      .unsettled = InState(std::move(row), DeviceState::kUndoing)});
}

void Operation::Attach(record::Volume row) {
  objects_.push_back(ObjectOf(row.id));
  handles_.insert(row.device_handle);
  volumes_.push_back({.before = std::nullopt,
                      .intent = row,
                      .unsettled = InState(std::move(row), VolumeState::kDetaching)});
}

void Operation::Delete(record::Device row) {
  is_removal_ = true;
  objects_.push_back(ObjectOf(row.handle));
  handles_.insert(row.handle);
  record::Device going = InState(row, DeviceState::kDeleting);
  devices_.push_back({.before = std::move(row), .intent = going, .unsettled = going});
}

void Operation::Detach(record::Volume row) {
  is_removal_ = true;
  objects_.push_back(ObjectOf(row.id));
  handles_.insert(row.device_handle);
  record::Volume going = InState(row, VolumeState::kDetaching);
  volumes_.push_back({.before = std::move(row), .intent = going, .unsettled = going});
}

void Operation::Limit(const std::string& handle, const base::Uuid& id,
                      std::optional<QosLimit> before, QosLimit intent) {
  handles_.insert(handle);
  objects_.push_back(ObjectOf(id));
  limits_.push_back({.id = id, .before = std::move(before), .intent = std::move(intent)});
}

bool Operation::HasIntent(const Limits& limits) {
  return !limits.before || !SameLimits(*limits.before, limits.intent);
}

void Operation::Wake() const {
  for (const std::string& handle : handles_) core_.wake_background(handle);
}

absl::Status Operation::Begin() {
  scope_.emplace(objects_);
  record::Change intent;
  for (const auto& entry : devices_) intent.put_devices.push_back(entry.intent);
  for (const auto& entry : volumes_) intent.put_volumes.push_back(entry.intent);
  for (const Limits& limits : limits_) {
    if (HasIntent(limits)) {
      intent.put_limits.push_back({.volume_id = limits.id, .limits = limits.intent});
    }
  }
  absl::Status status;
  if (!IsEmpty(intent)) status = core_.record->Write(std::move(intent), Durability::kProcess);
  is_open_ = status.ok();
  if (is_open_ && is_removal_) {
    absl::Status hung = core_.target_status();
    if (!hung.ok()) return Abandon(Outcome::Unknown(std::move(hung))).status();
  }
  return status;
}

bool Operation::MayActLate() const { return core::MayActLate(core_, objects_); }

Outcome Operation::Commit(record::Change done) {
  absl::Status status = context_.status();
  if (status.ok()) status = core_.record->Write(std::move(done), Durability::kHost);
  if (!status.ok()) return Abandon(std::move(status));
  is_open_ = false;
  return {};
}

absl::Status Operation::CommitRemoval(bool may_come_back) {
  record::Change change;
  if (may_come_back) {
    // The removal is reported to the caller as successful, so the intent must survive a crash of
    // the host.
    for (const auto& entry : devices_) change.put_devices.push_back(entry.intent);
    for (const auto& entry : volumes_) change.put_volumes.push_back(entry.intent);
  } else {
    for (const auto& entry : devices_) AddRemoval(core_, entry.intent, change);
    for (const auto& entry : volumes_) AddRemoval(core_, entry.intent, change);
  }
  absl::Status status = core_.record->Write(std::move(change), Durability::kHost);
  is_open_ = false;
  if (may_come_back || !status.ok()) Wake();
  return status.ok() ? status : WithContext(name_, status);
}

Outcome Operation::Abandon(Outcome why) {
  is_open_ = false;
  // Queried before the rollback: if no earlier call can take effect any more, the rollback is
  // final.
  const bool may_act = MayActLate();
  bool is_undone = why.is_settled();
  // Setting the old limits also rolls back a change whose outcome is unknown.
  if (!limits_.empty()) is_undone = true;
  for (auto undo = undo_.rbegin(); undo != undo_.rend() && is_undone; ++undo) {
    const Outcome outcome = (*undo)(spdk::UndoContext());
    if (outcome.ok()) continue;
    spdlog::warn("{}: rollback failed, retrying in the background: {}", name_, outcome.message());
    is_undone = false;
  }
  if (why.is_settled() && !is_undone) why = Outcome::Unknown(why.status());
  const bool is_refused =
      !is_removal_ || (can_be_refused_ && why.state() == Outcome::State::kNotDone);
  if (is_undone && !may_act && is_refused) {
    WriteEnd(Restored(), Durability::kProcess).IgnoreError();
  } else {
    // A removal that is under way is reported to the caller as successful.
    const bool is_success = is_removal_ && why.is_under_way();
    absl::Status written =
        WriteEnd(Unsettled(why.status()), is_success ? Durability::kHost : Durability::kProcess);
    if (is_success && !written.ok()) why = Outcome::Unknown(std::move(written));
    for (const Limits& limits : limits_) core_.unset_limits.Add(limits.id);
    Wake();
  }
  return why.WithContext(name_);
}

// Returns the change that restores the record as it was before the operation.
record::Change Operation::Restored() const {
  record::Change change;
  for (const auto& entry : devices_) {
    if (entry.before) {
      change.put_devices.push_back(*entry.before);
    } else {
      change.remove_devices.push_back(entry.intent.handle);
    }
  }
  for (const auto& entry : volumes_) {
    if (entry.before) {
      change.put_volumes.push_back(*entry.before);
    } else {
      change.remove_volumes.push_back(entry.intent.id);
    }
  }
  for (const Limits& limits : limits_) {
    if (!HasIntent(limits)) continue;
    if (limits.before) {
      change.put_limits.push_back({.volume_id = limits.id, .limits = *limits.before});
    } else {
      change.remove_limits.push_back(limits.id);
    }
  }
  return change;
}

record::Change Operation::Unsettled(const absl::Status& error) const {
  record::Change change;
  for (const auto& entry : devices_) {
    change.put_devices.push_back(WithError(entry.unsettled, error));
  }
  for (const auto& entry : volumes_) {
    change.put_volumes.push_back(WithError(entry.unsettled, error));
  }
  return change;
}

absl::Status Operation::WriteEnd(record::Change change, Durability durability) {
  if (IsEmpty(change)) return absl::OkStatus();
  absl::Status status = core_.record->Write(std::move(change), durability);
  if (!status.ok()) {
    spdlog::error("{}: {}", name_, status.ToString());
    Wake();
  }
  return status;
}

}  // namespace sma::core
