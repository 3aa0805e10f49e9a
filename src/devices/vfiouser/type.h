// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "agent/config/yaml_map.h"
#include "agent/device/built_in_type.h"
#include "devices/pci_common/pci_params.h"

namespace sma::vfiouser {

/// `params` of the device type in the configuration; see docs/configuration.md.
struct Params {
  pci_common::PciParams pci;
  bool msix = false;  // controllers have MSI-X instead of MSI
};

/// Reads all keys of `map`. Errors are added to its problems.
Params ReadParams(config::YamlMap& map);

/// Returns the device type for the list of built-in types.
device::BuiltInType Type();

}  // namespace sma::vfiouser
