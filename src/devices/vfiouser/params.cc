// SPDX-License-Identifier: Apache-2.0

#include "devices/vfiouser/params.h"

#include "devices/pci_common/physical_id.h"

namespace sma::vfiouser {
namespace {

constexpr std::string_view kHandlePrefix = "nvme:";
constexpr std::string_view kNqnPrefix = "nqn.2016-06.io.spdk:";
constexpr std::string_view kNamePrefix = "vfiouser-";

}  // namespace

std::string DeviceName(uint32_t physical_id) {
  return pci_common::NameOf(kNamePrefix, physical_id);
}

std::string DeviceName(const DeviceSpec& device) {
  return DeviceName(device.params.nvme().physical_id());
}

std::string NqnOf(const DeviceSpec& device) {
  return std::string(kNqnPrefix).append(DeviceName(device));
}

std::string NqnOf(std::string_view handle) {
  return std::string(handle.substr(kHandlePrefix.size()));
}

std::optional<uint32_t> PhysicalIdOf(std::string_view nqn) {
  if (!nqn.starts_with(kNqnPrefix)) return std::nullopt;
  return pci_common::PhysicalIdOf(kNamePrefix, nqn.substr(kNqnPrefix.size()));
}

std::string HandleOf(uint32_t physical_id) {
  return std::string(kHandlePrefix).append(kNqnPrefix).append(DeviceName(physical_id));
}

bool IsHandle(std::string_view handle) {
  return handle.starts_with(kHandlePrefix) &&
         PhysicalIdOf(handle.substr(kHandlePrefix.size())).has_value();
}

nvmf_common::SubsystemSpec SpecOf(const DeviceSpec& device, const std::string& folder) {
  return {.nqn = NqnOf(device),
          .allow_any_host = true,
          .hosts = {},
          .listener = {.trtype = "vfiouser", .adrfam = "", .traddr = folder, .trsvcid = ""},
          .serial_number = device.mark};
}

}  // namespace sma::vfiouser
