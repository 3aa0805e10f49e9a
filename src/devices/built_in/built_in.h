// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <vector>

#include "agent/config/devices.h"
#include "agent/device/built_in_type.h"

namespace sma::devices {

/// Returns the built-in device types.
std::vector<device::BuiltInType> BuiltInTypes();

/// Returns the built-in device types in the form that the configuration parser needs.
std::vector<config::DeviceType> ConfigurationTypes();

}  // namespace sma::devices
