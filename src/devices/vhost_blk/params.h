#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sma/device_manager.h"

namespace sma::vhost_blk {

/// The name of the vhost controller, of its socket and of the device in the machine.
std::string ControllerName(uint32_t physical_id);
std::string ControllerName(const DeviceSpec& device);

/// The physical id in a name that ControllerName gives; nullopt for any other.
std::optional<uint32_t> PhysicalIdOf(std::string_view controller_name);

/// The handle of the device with this controller.
std::string HandleOf(std::string_view controller_name);

/// Whether `handle` is one that HandleOf gives.
bool IsHandle(std::string_view handle);

}  // namespace sma::vhost_blk
