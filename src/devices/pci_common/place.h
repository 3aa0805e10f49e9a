// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/qmp/hot_plug.h"
#include "agent/qmp/pci_buses.h"
#include "base/context.h"
#include "devices/pci_common/inventories.h"

namespace sma::pci_common {

/// The VM that a device was plugged into, as DeviceSpec::place records it. The configuration may
/// have other buses by now, and then has another VM for the device's physical id.
struct Place {
  std::string qmp;      // address of the VM's QMP server; empty: the place is unknown
  std::string vm_uuid;  // qmp::Inventory::vm_uuid
  std::string socket;   // path of the device's socket as QEMU sees it; empty: unknown, or none
};

/// Returns the place of a device that is to be plugged into `slot`.
Place PlaceOf(const qmp::PciSlot& slot, std::string_view socket);
/// Returns an empty text for an unknown place.
std::string ToText(const Place& place);
/// Returns an unknown place for any text that ToText does not return.
Place ParsePlace(std::string_view text);

/// Returns the client of the VM that has the device; null if none is known. `slot` is that of the
/// configuration.
std::shared_ptr<qmp::Client> VmOf(const Place& place, const qmp::PciSlot& slot,
                                  const qmp::Buses& buses);

/// Returns DeviceManager::NeighbourOf for a device with this place: its VM, or else that of the
/// slot in the configuration.
std::string NeighbourOf(std::string_view place, const absl::StatusOr<qmp::PciSlot>& slot);

/// What the VMs show of a device.
struct PlugState {
  bool is_plugged = false;   // also true if the configuration does not plug devices
  bool has_chardev = false;  // the VM has the device's character device, which may be connected
  /// Not OK: the device must not be plugged. ALREADY_EXISTS: its VM has another client's device of
  /// this id; FAILED_PRECONDITION: the configuration, or the address of its VM, has another VM.
  absl::Status obstacle{};
  Place place;  // to be recorded
};

/// Queries whether a VM has `device`: the one that it was plugged into, or, if that is unknown, any
/// configured one. Returns UNAVAILABLE or another error if a VM cannot be queried.
absl::StatusOr<PlugState> QueryPlug(const base::Context& context, Inventories& inventories,
                                    const qmp::Buses& buses, const qmp::PciSlot& slot,
                                    const Place& place, const qmp::PciDevice& device);

}  // namespace sma::pci_common
