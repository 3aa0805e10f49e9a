// SPDX-License-Identifier: Apache-2.0

#include "devices/vhost_blk/params.h"

#include "devices/pci_common/physical_id.h"

namespace sma::vhost_blk {
namespace {

constexpr std::string_view kNamePrefix = "sma-";
constexpr std::string_view kHandlePrefix = "virtio_blk:";

}  // namespace

std::string ControllerName(uint32_t physical_id) {
  return pci_common::NameOf(kNamePrefix, physical_id);
}

std::string ControllerName(const DeviceSpec& device) {
  return ControllerName(device.params.virtio_blk().physical_id());
}

std::optional<uint32_t> PhysicalIdOf(std::string_view controller_name) {
  return pci_common::PhysicalIdOf(kNamePrefix, controller_name);
}

std::string HandleOf(std::string_view controller_name) {
  return std::string(kHandlePrefix).append(controller_name);
}

std::string ControllerNameOf(std::string_view handle) {
  return IsHandle(handle) ? std::string(handle.substr(kHandlePrefix.size())) : std::string();
}

bool IsHandle(std::string_view handle) {
  return handle.starts_with(kHandlePrefix) &&
         PhysicalIdOf(handle.substr(kHandlePrefix.size())).has_value();
}

}  // namespace sma::vhost_blk
