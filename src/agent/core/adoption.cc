#include "agent/core/adoption.h"

#include <fmt/format.h>

#include <utility>

namespace sma::core {

admin::v1::AdoptionCandidate CandidateMessage(const AdoptionCandidate& candidate, DeviceType type) {
  admin::v1::AdoptionCandidate message;
  message.set_handle(candidate.device.handle);
  message.set_type(type);
  const CreateDeviceRequest& params = candidate.device.params;
  if (params.has_nvme()) *message.mutable_nvme() = params.nvme();
  if (params.has_virtio_blk()) *message.mutable_virtio_blk() = params.virtio_blk();
  if (params.has_nvmf_tcp()) *message.mutable_nvmf_tcp() = params.nvmf_tcp();
  for (const DeviceVolume& volume : candidate.volumes) {
    message.add_volumes()->set_volume_id(volume.id.ToBytes());
    message.mutable_volumes(message.volumes_size() - 1)->set_bdev(volume.bdev_name);
  }
  message.set_obstacle(candidate.obstacle);
  return message;
}

absl::StatusOr<record::Change> AdoptionOf(const AdoptionCandidate& candidate,
                                          const DeviceManager& manager,
                                          const std::set<base::Uuid>& confirmed,
                                          const record::Record& record) {
  if (!candidate.obstacle.empty()) return absl::FailedPreconditionError(candidate.obstacle);
  record::Change change;
  record::Device device;
  device.handle = candidate.device.handle;
  device.manager = std::string(manager.name());
  device.params = candidate.device.params;
  device.mark = candidate.device.mark;
  device.state = record::DeviceState::kReady;
  device.created = device.state_since = std::chrono::system_clock::now();
  change.put_devices.push_back(device);
  std::set<base::Uuid> there;
  for (const DeviceVolume& found : candidate.volumes) {
    there.insert(found.id);
    if (record.FindVolume(found.id)) {
      return absl::FailedPreconditionError(
          fmt::format("volume {} is in the record already", found.id.ToString()));
    }
    record::Volume volume;
    volume.id = found.id;
    volume.device_handle = device.handle;
    volume.params.set_volume_id(found.id.ToBytes());
    volume.bdev_name = found.id.ToString();
    volume.attachment = found.attachment;
    volume.state = record::VolumeState::kAttached;
    volume.created = volume.state_since = device.created;
    change.put_volumes.push_back(std::move(volume));
  }
  if (there != confirmed) {
    return absl::FailedPreconditionError("its volumes are not those that were confirmed");
  }
  return change;
}

}  // namespace sma::core
