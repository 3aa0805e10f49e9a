// SPDX-License-Identifier: Apache-2.0

#include "devices/vhost_blk/vhost_blk_manager.h"

#include <fmt/format.h>

#include <utility>

#include "agent/spdk/qos.h"
#include "devices/vhost_blk/params.h"

namespace sma::vhost_blk {

absl::StatusOr<DeviceSpec> VhostBlkManager::Describe(const CreateDeviceRequest& request) const {
  const virtio_blk::DeviceParameters& params = request.virtio_blk();
  if (params.virtual_id() != 0) {
    return absl::InvalidArgumentError(fmt::format(
        "virtio_blk.virtual_id: {}: virtual functions are not supported", params.virtual_id()));
  }
  absl::StatusOr<qmp::PciSlot> slot = options_.buses.Find(params.physical_id());
  if (!slot.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("virtio_blk.{}", std::string(slot.status().message())));
  }
  DeviceSpec device;
  device.handle = HandleOf(ControllerName(params.physical_id()));
  device.params.mutable_virtio_blk()->set_physical_id(params.physical_id());
  device.place = pci_common::ToText(pci_common::PlaceOf(*slot, FunctionOf(device).chardev_path));
  return device;
}

std::string VhostBlkManager::NeighbourOf(const DeviceSpec& device) const {
  return pci_common::NeighbourOf(device.place, SlotOf(device));
}

bool VhostBlkManager::OwnsHandle(std::string_view handle) const { return IsHandle(handle); }

Outcome VhostBlkManager::SetQos(const base::Context& context, const DeviceSpec& /*device*/,
                                const DeviceVolume* volume, const QosLimit& maximum) {
  // A device and its volume share one rate limiter, so the limits of a device are those of its
  // volume.
  if (volume == nullptr) return absl::FailedPreconditionError("the device has no volume");
  absl::StatusOr<spdk::RateLimits> limits = spdk::ToRateLimits(maximum);
  if (!limits.ok()) return limits.status();
  return spdk::SetQosLimits(target_, context, volume->bdev_name, *limits);
}

absl::StatusOr<GetQosCapabilitiesResponse> VhostBlkManager::GetQosCapabilities(
    const base::Context& /*context*/) const {
  GetQosCapabilitiesResponse response;
  *response.mutable_max_device_caps() = spdk::BdevQosCapabilities();
  *response.mutable_max_volume_caps() = spdk::BdevQosCapabilities();
  return response;
}

}  // namespace sma::vhost_blk
