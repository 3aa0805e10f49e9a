#include "agent/core/admin_messages.h"

#include <algorithm>

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

admin::v1::Device DeviceMessage(const record::Device& row, DeviceType type,
                                const std::vector<record::Volume>& volumes) {
  admin::v1::Device device;
  device.set_handle(row.handle);
  device.set_type(type);
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
  return device;
}

admin::v1::Volume VolumeMessage(const record::Volume& row, const std::optional<QosLimit>& limits) {
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
  if (limits) *volume.mutable_qos() = *limits;
  volume.set_bdev(row.bdev_name);
  if (row.last_error.code != absl::StatusCode::kOk) {
    SetError(row.last_error, *volume.mutable_last_error());
  }
  return volume;
}

}  // namespace sma::core
