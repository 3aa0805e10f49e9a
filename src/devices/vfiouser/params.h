// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "devices/nvmf_common/subsystem_spec.h"
#include "sma/device_manager.h"

namespace sma::vfiouser {

/// Returns the name of the device in its VM, and of its folder: "vfiouser-5".
std::string DeviceName(uint32_t physical_id);
std::string DeviceName(const DeviceSpec& device);

/// Returns the NQN of a device's subsystem.
std::string NqnOf(const DeviceSpec& device);
/// Returns the NQN for a handle of this type.
std::string NqnOf(std::string_view handle);

/// Returns the physical id in an NQN created by NqnOf; nullopt for any other NQN.
std::optional<uint32_t> PhysicalIdOf(std::string_view nqn);

/// HandleOf() returns the handle of a device; IsHandle() returns true if `handle` has that form.
std::string HandleOf(uint32_t physical_id);
bool IsHandle(std::string_view handle);

/// Returns the subsystem of a device whose folder is `folder`.
nvmf_common::SubsystemSpec SpecOf(const DeviceSpec& device, const std::string& folder);

}  // namespace sma::vfiouser
