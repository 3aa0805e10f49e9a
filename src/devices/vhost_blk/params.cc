#include "devices/vhost_blk/params.h"

#include <charconv>

namespace sma::vhost_blk {
namespace {

constexpr std::string_view kNamePrefix = "sma-";
constexpr std::string_view kHandlePrefix = "virtio_blk:";

}  // namespace

std::string ControllerName(uint32_t physical_id) {
  return std::string(kNamePrefix).append(std::to_string(physical_id));
}

std::string ControllerName(const DeviceSpec& device) {
  return ControllerName(device.params.virtio_blk().physical_id());
}

std::optional<uint32_t> PhysicalIdOf(std::string_view controller_name) {
  if (!controller_name.starts_with(kNamePrefix)) return std::nullopt;
  const std::string_view digits = controller_name.substr(kNamePrefix.size());
  uint32_t id = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
  // One id has one name: no leading zeros.
  if (error != std::errc() || ControllerName(id) != controller_name) return std::nullopt;
  return id;
}

std::string HandleOf(std::string_view controller_name) {
  return std::string(kHandlePrefix).append(controller_name);
}

bool IsHandle(std::string_view handle) {
  return handle.starts_with(kHandlePrefix) &&
         PhysicalIdOf(handle.substr(kHandlePrefix.size())).has_value();
}

}  // namespace sma::vhost_blk
