// SPDX-License-Identifier: Apache-2.0

#include "agent/record/testing/memory_store.h"

namespace sma::record {

absl::StatusOr<Contents> MemoryStore::Load() {
  Contents contents;
  for (const auto& [handle, device] : disk_->devices) contents.devices.push_back(device);
  for (const auto& [id, volume] : disk_->volumes) contents.volumes.push_back(volume);
  for (const auto& [id, limits] : disk_->limits) contents.limits.push_back(limits);
  return contents;
}

absl::Status MemoryStore::Commit(std::span<const Change* const> changes, Durability durability) {
  if (disk_->fault) {
    if (absl::Status status = disk_->fault(durability); !status.ok()) return status;
  }
  ++disk_->commits;
  for (const Change* change : changes) {
    for (const Device& device : change->put_devices) {
      disk_->devices.insert_or_assign(device.handle, device);
    }
    for (const std::string& handle : change->remove_devices) disk_->devices.erase(handle);
    for (const Volume& volume : change->put_volumes) {
      disk_->volumes.insert_or_assign(volume.id, volume);
    }
    for (const base::Uuid& id : change->remove_volumes) disk_->volumes.erase(id);
    for (const VolumeLimits& limits : change->put_limits) {
      disk_->limits.insert_or_assign(limits.volume_id, limits);
    }
    for (const base::Uuid& id : change->remove_limits) disk_->limits.erase(id);
  }
  return absl::OkStatus();
}

}  // namespace sma::record
