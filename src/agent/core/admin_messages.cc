#include "agent/core/admin_messages.h"

#include <fmt/format.h>

#include <algorithm>

#include "agent/core/qos_limits.h"

namespace sma::core {
namespace {

using admin::v1::State;
using record::DeviceState;
using record::VolumeState;

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
      // As Encryption::Restore says it.
      return row.params.has_crypto() && row.last_error.code == absl::StatusCode::kFailedPrecondition
                 ? admin::v1::STATE_KEY_NEEDED
                 : admin::v1::STATE_DEGRADED;
    case VolumeState::kDetaching:
      return admin::v1::STATE_DELETING;
  }
  return admin::v1::STATE_UNSPECIFIED;
}

// When the object came into the state that it is told to be in.
template <typename Row>
record::Time StateSince(const Row& row) {
  bool has_error = row.last_error.code != absl::StatusCode::kOk;
  return has_error ? std::max(row.state_since, row.last_error.time) : row.state_since;
}

class ConditionList {
 public:
  using Conditions = google::protobuf::RepeatedPtrField<admin::v1::Condition>;
  explicit ConditionList(Conditions& conditions) : conditions_(conditions) {}

  void Add(const char* type, bool is_true, const std::string& reason, const std::string& message,
           record::Time since) {
    admin::v1::Condition& condition = *conditions_.Add();
    condition.set_type(type);
    condition.set_status(is_true ? admin::v1::Condition::STATUS_TRUE
                                 : admin::v1::Condition::STATUS_FALSE);
    condition.set_reason(reason);
    condition.set_message(message);
    SetTime(since, *condition.mutable_since());
  }

 private:
  Conditions& conditions_;
};

// "KeyNeeded", of the state of that name.
std::string ReasonOf(State state) {
  switch (state) {
    case admin::v1::STATE_CREATING:
      return "Creating";
    case admin::v1::STATE_READY:
      return "AsAskedFor";
    case admin::v1::STATE_KEY_NEEDED:
      return "KeyNeeded";
    case admin::v1::STATE_DELETING:
      return "Deleting";
    default:
      return "Incomplete";
  }
}

template <typename Facts>
void AddCommonConditions(const Facts& facts, record::Time since, ConditionList& conditions) {
  conditions.Add("Restoring", !facts.is_compared, facts.is_compared ? "Compared" : "NotComparedYet",
                 "", since);
  if (!Told(facts.limits)) return;
  conditions.Add("LimitsApplied", facts.limits_applied,
                 facts.limits_applied ? "Applied" : "NotAppliedYet", "", since);
}

}  // namespace

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
  device.set_state(StateOf(row));
  SetTime(StateSince(row), *device.mutable_state_since());
  SetTime(row.created, *device.mutable_created());
  if (row.params.has_nvme()) *device.mutable_nvme() = row.params.nvme();
  if (row.params.has_virtio_blk()) *device.mutable_virtio_blk() = row.params.virtio_blk();
  if (row.params.has_nvmf_tcp()) *device.mutable_nvmf_tcp() = row.params.nvmf_tcp();
  for (const record::Volume& volume : volumes) device.add_volume_ids(volume.id.ToBytes());
  if (row.last_error.code != absl::StatusCode::kOk) {
    SetError(row.last_error, *device.mutable_last_error());
  }
  if (auto limits = Told(facts.limits)) *device.mutable_qos() = *limits;
  if (!facts.unreachable.empty() && device.state() == admin::v1::STATE_READY) {
    device.set_state(admin::v1::STATE_DEGRADED);
  }
  ConditionList conditions(*device.mutable_conditions());
  if (!facts.unreachable.empty()) {
    conditions.Add("VolumesReachable", false, "NoPathUp",
                   fmt::format("no path to volume {}", facts.unreachable.front().ToString()),
                   StateSince(row));
  }
  conditions.Add("OnTarget", device.state() == admin::v1::STATE_READY, ReasonOf(device.state()),
                 row.last_error.message, StateSince(row));
  AddCommonConditions(facts, row.state_since, conditions);
  return device;
}

admin::v1::Volume VolumeMessage(const record::Volume& row, const VolumeFacts& facts) {
  admin::v1::Volume volume;
  volume.set_volume_id(row.id.ToBytes());
  volume.set_device_handle(row.device_handle);
  volume.set_state(StateOf(row));
  SetTime(StateSince(row), *volume.mutable_state_since());
  SetTime(row.created, *volume.mutable_attached());
  if (row.params.has_nvmf()) *volume.mutable_nvmf() = row.params.nvmf();
  if (row.params.has_iscsi()) *volume.mutable_iscsi() = row.params.iscsi();
  if (row.params.has_crypto()) {
    volume.mutable_encryption()->set_cipher(row.params.crypto().cipher());
    volume.mutable_encryption()->set_tweak_mode(row.params.crypto().tweak_mode());
  }
  if (auto limits = Told(facts.limits)) *volume.mutable_qos() = *limits;
  volume.set_bdev(row.bdev_name);
  if (row.last_error.code != absl::StatusCode::kOk) {
    SetError(row.last_error, *volume.mutable_last_error());
  }
  // I/O to it hangs, whatever else is well.
  const bool is_unreachable = facts.paths && facts.paths->paths.up == 0;
  if (is_unreachable && volume.state() == admin::v1::STATE_READY) {
    volume.set_state(admin::v1::STATE_DEGRADED);
    SetTime(facts.paths->since, *volume.mutable_state_since());
  }
  ConditionList conditions(*volume.mutable_conditions());
  conditions.Add("Attached", volume.state() == admin::v1::STATE_READY, ReasonOf(volume.state()),
                 row.last_error.message, StateSince(row));
  if (row.params.has_crypto()) {
    const bool is_needed = volume.state() == admin::v1::STATE_KEY_NEEDED;
    conditions.Add("KeyNeeded", is_needed, is_needed ? "KeyNotKept" : "KeyKnown",
                   is_needed ? row.last_error.message : "", StateSince(row));
  }
  if (facts.paths) {
    const volume::PathCount& paths = facts.paths->paths;
    conditions.Add("PathsUp", paths.up > 0, paths.up > 0 ? "Connected" : "AllDown",
                   fmt::format("{} of {}", paths.up, paths.total), facts.paths->since);
  }
  AddCommonConditions(facts, row.state_since, conditions);
  return volume;
}

}  // namespace sma::core
