#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "devices/nvmf_common/subsystem_spec.h"
#include "sma/device_manager.h"

namespace sma::vfiouser {

/// The name of the device in its machine, and of its folder: "vfiouser-5".
std::string DeviceName(uint32_t physical_id);
std::string DeviceName(const DeviceSpec& device);

/// The NQN of a device's subsystem.
std::string NqnOf(const DeviceSpec& device);

/// The physical id in an NQN that NqnOf gives; nullopt for any other.
std::optional<uint32_t> PhysicalIdOf(std::string_view nqn);

/// The handle of a device, and whether `handle` is one of some device's.
std::string HandleOf(uint32_t physical_id);
bool IsHandle(std::string_view handle);

/// What the device is on the target when its folder is `folder`.
nvmf_common::SubsystemSpec SpecOf(const DeviceSpec& device, const std::string& folder);

}  // namespace sma::vfiouser
