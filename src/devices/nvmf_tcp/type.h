// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "agent/device/built_in_type.h"

namespace sma::nvmf_tcp {

/// Returns the device type for the list of built-in types. It has no parameters in the
/// configuration.
device::BuiltInType Type();

}  // namespace sma::nvmf_tcp
