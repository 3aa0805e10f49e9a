// SPDX-License-Identifier: Apache-2.0

#include "agent/core/admin_messages.h"

#include <fmt/format.h>

#include <algorithm>

#include "agent/core/qos_limits.h"
#include "sma/device_params.h"

namespace sma::core {
namespace {

using admin::v1::State;
using record::DeviceState;
using record::VolumeState;

using Condition = admin::v1::Condition;

// Returns the time since which the row, on its own, has described the present state.
template <typename Row>
record::Time RowSince(const Row& row) {
  const State state = StateOf(row);
  const bool follows_error = state == admin::v1::STATE_READY ||
                             state == admin::v1::STATE_DEGRADED ||
                             state == admin::v1::STATE_KEY_NEEDED;
  return follows_error ? std::max(row.state_since, row.last_error.time) : row.state_since;
}

class ConditionList {
 public:
  using Conditions = google::protobuf::RepeatedPtrField<admin::v1::Condition>;
  explicit ConditionList(Conditions& conditions) : conditions_(conditions) {}

  void Add(const char* type, Condition::Status status, const std::string& reason,
           const std::string& message, record::Time since) {
    Condition& condition = *conditions_.Add();
    condition.set_type(type);
    condition.set_status(status);
    condition.set_reason(reason);
    condition.set_message(message);
    SetTime(since, *condition.mutable_since());
  }
  void Add(const char* type, bool is_true, const std::string& reason, const std::string& message,
           record::Time since) {
    Add(type, is_true ? Condition::STATUS_TRUE : Condition::STATUS_FALSE, reason, message, since);
  }

 private:
  Conditions& conditions_;
};

// Returns the reason given in a condition that is derived from the object's state.
std::string ReasonOf(State state) {
  switch (state) {
    case admin::v1::STATE_CREATING:
      return "Creating";
    case admin::v1::STATE_READY:
      return "AsRequested";
    case admin::v1::STATE_KEY_NEEDED:
      return "KeyNeeded";
    case admin::v1::STATE_DELETING:
      return "Deleting";
    case admin::v1::STATE_UNKNOWN:
      return "TargetSilent";
    case admin::v1::STATE_RESTORING:
      return "ComparisonPending";
    default:
      return "Incomplete";
  }
}

Condition::Status StatusOf(State state) {
  if (state == admin::v1::STATE_READY) return Condition::STATUS_TRUE;
  const bool is_unknown = state == admin::v1::STATE_UNKNOWN || state == admin::v1::STATE_RESTORING;
  return is_unknown ? Condition::STATUS_UNKNOWN : Condition::STATUS_FALSE;
}

struct Reported {
  State state;
  record::Time since;
};

// Returns the state to be reported. `degraded_since` is the time since which there has been a
// problem that is not in the row, or nullopt if there is none; `well_since` is the end of the last
// such problem.
template <typename Row>
Reported ReportedState(const Row& row, const CommonFacts& facts,
                       std::optional<record::Time> degraded_since, record::Time well_since) {
  const State state = StateOf(row);
  if (state != admin::v1::STATE_READY) return {state, RowSince(row)};
  if (!facts.target_answers) return {admin::v1::STATE_UNKNOWN, facts.target_since};
  if (degraded_since) return {admin::v1::STATE_DEGRADED, *degraded_since};
  if (!facts.is_compared) return {admin::v1::STATE_RESTORING, facts.compared_since};
  record::Time since = std::max(RowSince(row), well_since);
  // The target may have lost the object together with the connection.
  if (facts.target_was_lost) since = std::max(since, facts.compared_since);
  return {admin::v1::STATE_READY, since};
}

void AddTargetCondition(const CommonFacts& facts, ConditionList& conditions) {
  conditions.Add("TargetAnswers", facts.target_answers,
                 facts.target_answers ? "Answers" : "TargetSilent", facts.target_message,
                 facts.target_since);
}

void AddLimitsCondition(const CommonFacts& facts, record::Time since, ConditionList& conditions) {
  if (!ReportedLimits(facts.limits)) return;
  const bool is_applied = !facts.limits_unset_since;
  conditions.Add("LimitsApplied", is_applied, is_applied ? "Applied" : "Pending", "",
                 facts.limits_unset_since.value_or(since));
}

}  // namespace

State StateOf(const record::Device& row) {
  switch (row.state) {
    case DeviceState::kCreating:
      return admin::v1::STATE_CREATING;
    case DeviceState::kReady:
      return row.last_error.code == absl::StatusCode::kOk ? admin::v1::STATE_READY
                                                          : admin::v1::STATE_DEGRADED;
    case DeviceState::kDeleting:
    case DeviceState::kUndoing:
      return admin::v1::STATE_DELETING;
  }
  return admin::v1::STATE_UNSPECIFIED;
}

State StateOf(const record::Volume& row) {
  switch (row.state) {
    case VolumeState::kAttaching:
      return admin::v1::STATE_CREATING;
    case VolumeState::kAttached:
      if (row.last_error.code == absl::StatusCode::kOk) return admin::v1::STATE_READY;
      // The code that Encryption::Restore returns if the keys are not known.
      return row.params.has_crypto() && row.last_error.code == absl::StatusCode::kFailedPrecondition
                 ? admin::v1::STATE_KEY_NEEDED
                 : admin::v1::STATE_DEGRADED;
    case VolumeState::kDetaching:
      return admin::v1::STATE_DELETING;
  }
  return admin::v1::STATE_UNSPECIFIED;
}

void SetTime(record::Time time, google::protobuf::Timestamp& message) {
  auto since_epoch = time.time_since_epoch();
  auto seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
  message.set_seconds(seconds.count());
  message.set_nanos(static_cast<int32_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(since_epoch - seconds).count()));
}

void SetError(const record::LastError& error, admin::v1::Error& message) {
  message.set_code(static_cast<int32_t>(error.code));
  message.set_message(error.message);
  SetTime(error.time, *message.mutable_time());
}

admin::v1::Device DeviceMessage(const record::Device& row, const DeviceFacts& facts,
                                const std::vector<record::Volume>& volumes) {
  admin::v1::Device device;
  device.set_handle(row.handle);
  device.set_type(facts.type);
  device.set_manager(row.manager);
  std::optional<record::Time> degraded_since;
  if (facts.problem) degraded_since = facts.problem->since;
  const Reported reported = ReportedState(row, facts, degraded_since, facts.well_since);
  device.set_state(reported.state);
  SetTime(reported.since, *device.mutable_state_since());
  SetTime(row.created, *device.mutable_created());
  CopyParams(row.params, device);
  for (const record::Volume& volume : volumes) device.add_volume_ids(volume.id.ToBytes());
  if (row.last_error.code != absl::StatusCode::kOk) {
    SetError(row.last_error, *device.mutable_last_error());
  }
  if (auto limits = ReportedLimits(facts.limits)) *device.mutable_qos() = *limits;
  ConditionList conditions(*device.mutable_conditions());
  AddTargetCondition(facts, conditions);
  if (facts.problem) {
    conditions.Add("VolumesReachable", false, facts.problem->reason, facts.problem->message,
                   facts.problem->since);
  }
  const Reported own = ReportedState(row, facts, std::nullopt, {});
  conditions.Add("OnTarget", StatusOf(own.state), ReasonOf(own.state), row.last_error.message,
                 own.since);
  conditions.Add("Restoring", !facts.is_compared,
                 facts.is_compared ? "ComparisonDone" : "ComparisonPending", "",
                 facts.compared_since);
  AddLimitsCondition(facts, row.state_since, conditions);
  return device;
}

std::optional<VolumeProblem> ProblemOf(const record::Volume& row,
                                       const std::optional<PathFacts::Fact>& paths) {
  const State state = StateOf(row);
  if (state == admin::v1::STATE_DEGRADED || state == admin::v1::STATE_KEY_NEEDED) {
    const std::string id = row.id.ToString();
    const std::string& text = row.last_error.message;
    const bool is_named = text.find(id) != std::string::npos;
    return VolumeProblem{
        .reason = state == admin::v1::STATE_KEY_NEEDED ? "KeyNeeded" : "VolumeIncomplete",
        .message = is_named ? text : fmt::format("volume {}: {}", id, text),
        .since = RowSince(row)};
  }
  if (state != admin::v1::STATE_READY || !paths || !paths->is_down()) return std::nullopt;
  return VolumeProblem{.reason = "NoPathUp",
                       .message = fmt::format("no path to volume {}", row.id.ToString()),
                       .since = paths->reachable_since};
}

namespace {

void AddVolumeConditions(const record::Volume& row, const VolumeFacts& facts,
                         const Reported& reported, ConditionList& conditions) {
  AddTargetCondition(facts, conditions);
  const bool is_cut_off = facts.paths && facts.paths->is_down();
  std::string why = row.last_error.message;
  if (why.empty() && is_cut_off) {
    why = row.params.has_iscsi()
              ? fmt::format("portal {} does not answer", row.params.iscsi().portal())
              : "no path to its storage node is up";
  }
  conditions.Add("Attached", StatusOf(reported.state), ReasonOf(reported.state), why,
                 reported.since);
  if (row.params.has_crypto()) {
    const bool is_needed = StateOf(row) == admin::v1::STATE_KEY_NEEDED;
    conditions.Add("KeyNeeded", is_needed, is_needed ? "KeyUnavailable" : "KeyAvailable",
                   is_needed ? row.last_error.message : "", RowSince(row));
  }
  if (facts.paths) {
    const volume::PathCount& paths = facts.paths->paths;
    const char* some = paths.up < paths.total ? "SomeDown" : "Connected";
    conditions.Add("PathsUp", !is_cut_off, is_cut_off ? "AllDown" : some,
                   fmt::format("{} of {}", paths.up, paths.total), facts.paths->since);
  }
  if (facts.is_connecting) {
    conditions.Add("Restoring", true, "Connecting", row.last_error.message, RowSince(row));
  } else {
    conditions.Add("Restoring", !facts.is_compared,
                   facts.is_compared ? "ComparisonDone" : "ComparisonPending", "",
                   facts.compared_since);
  }
  if (StateOf(row) == admin::v1::STATE_KEY_NEEDED) {
    // The bdev with the limits does not exist.
    if (ReportedLimits(facts.limits)) {
      conditions.Add("LimitsApplied", false, "KeyNeeded", row.last_error.message, RowSince(row));
    }
  } else {
    AddLimitsCondition(facts, row.state_since, conditions);
  }
}

}  // namespace

admin::v1::Volume VolumeMessage(const record::Volume& row, const VolumeFacts& facts) {
  admin::v1::Volume volume;
  volume.set_volume_id(row.id.ToBytes());
  volume.set_device_handle(row.device_handle);
  // Without a path, I/O to the volume hangs, whatever its row says.
  std::optional<record::Time> degraded_since;
  if (facts.paths && facts.paths->is_down()) degraded_since = facts.paths->reachable_since;
  const record::Time well_since = facts.paths ? facts.paths->reachable_since : record::Time();
  const Reported reported = ReportedState(row, facts, degraded_since, well_since);
  volume.set_state(reported.state);
  SetTime(reported.since, *volume.mutable_state_since());
  SetTime(row.created, *volume.mutable_attached());
  if (row.params.has_nvmf()) *volume.mutable_nvmf() = row.params.nvmf();
  if (row.params.has_iscsi()) *volume.mutable_iscsi() = row.params.iscsi();
  if (row.params.has_crypto()) {
    volume.mutable_encryption()->set_cipher(row.params.crypto().cipher());
    volume.mutable_encryption()->set_tweak_mode(row.params.crypto().tweak_mode());
  }
  if (auto limits = ReportedLimits(facts.limits)) *volume.mutable_qos() = *limits;
  volume.set_bdev(row.bdev_name);
  if (row.last_error.code != absl::StatusCode::kOk) {
    SetError(row.last_error, *volume.mutable_last_error());
  }
  ConditionList conditions(*volume.mutable_conditions());
  AddVolumeConditions(row, facts, reported, conditions);
  return volume;
}

}  // namespace sma::core
