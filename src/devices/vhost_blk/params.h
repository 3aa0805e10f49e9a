// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sma/device_manager.h"

namespace sma::vhost_blk {

/// Returns the name of the vhost controller, of its socket and of the device in the VM.
std::string ControllerName(uint32_t physical_id);
std::string ControllerName(const DeviceSpec& device);

/// Returns the physical id in a name created by ControllerName; nullopt for any other name.
std::optional<uint32_t> PhysicalIdOf(std::string_view controller_name);

/// Returns the handle of the device with this controller.
std::string HandleOf(std::string_view controller_name);

/// Returns the controller of a device with the handle `handle`; empty for any other text.
std::string ControllerNameOf(std::string_view handle);

/// Returns true if `handle` has the form of HandleOf().
bool IsHandle(std::string_view handle);

}  // namespace sma::vhost_blk
