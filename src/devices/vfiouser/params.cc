#include "devices/vfiouser/params.h"

#include <charconv>

namespace sma::vfiouser {
namespace {

constexpr std::string_view kHandlePrefix = "nvme:";
constexpr std::string_view kNqnPrefix = "nqn.2016-06.io.spdk:";
constexpr std::string_view kNamePrefix = "vfiouser-";

}  // namespace

std::string DeviceName(uint32_t physical_id) {
  return std::string(kNamePrefix).append(std::to_string(physical_id));
}

std::string DeviceName(const DeviceSpec& device) {
  return DeviceName(device.params.nvme().physical_id());
}

std::string NqnOf(const DeviceSpec& device) {
  return std::string(kNqnPrefix).append(DeviceName(device));
}

// A number has one form only: no sign, no leading zeroes.
std::optional<uint32_t> PhysicalIdOf(std::string_view nqn) {
  if (!nqn.starts_with(kNqnPrefix)) return std::nullopt;
  const std::string_view name = nqn.substr(kNqnPrefix.size());
  if (!name.starts_with(kNamePrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kNamePrefix.size());
  uint32_t physical_id = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), physical_id);
  if (error != std::errc() || DeviceName(physical_id) != name) return std::nullopt;
  return physical_id;
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
