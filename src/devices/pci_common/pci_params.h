// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/config/yaml_map.h"
#include "agent/qmp/address.h"
#include "agent/qmp/pci_buses.h"

namespace sma::pci_common {

/// A PCI bridge of a VM into which devices are plugged.
struct Bus {
  std::string name;
  uint32_t slot_count = 32;
  std::optional<qmp::Address> qmp;  // of the bus's VM; nullopt: the device type's
};

/// The configuration parameters shared by all device types whose devices are PCI functions.
struct PciParams {
  std::vector<Bus> buses;              // names are not empty, and unique within each VM
  std::optional<qmp::Address> qmp;     // nullopt: devices are not plugged, only sockets are created
  std::string sock_path = "/var/tmp";  // without a trailing slash
};

/// Parses what Address::ToString returns, and an absolute path. Returns nullopt for any other text.
std::optional<qmp::Address> ParseQmpAddress(std::string_view text);

/// Reads these keys of `map`; the caller reads its own keys and refuses others.
PciParams ReadPciParams(config::YamlMap& map);

/// Returns the buses with the QMP clients of their VMs.
qmp::Buses MakeBuses(const PciParams& params, qmp::VmClients& vms);

}  // namespace sma::pci_common
