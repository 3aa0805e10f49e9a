// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/qmp/hot_plug.h"
#include "agent/qmp/pci_buses.h"
#include "base/context.h"
#include "devices/pci_common/inventories.h"
#include "devices/pci_common/place.h"
#include "devices/vhost_blk/controllers.h"
#include "devices/vhost_blk/options.h"
#include "sma/device_manager.h"
#include "sma/outcome.h"

namespace sma::vhost_blk {

/// The virtio-blk functions that devices have in VMs, if the configuration plugs them. All methods
/// that take a context block while they query a VM. Thread-safe.
class VmFunctions {
 public:
  /// Both references must outlive this object.
  VmFunctions(Controllers& controllers, const Options& options)
      : controllers_(controllers), options_(options) {}

  /// Return the slot that the configuration has for a physical id; INVALID_ARGUMENT if none.
  absl::StatusOr<qmp::PciSlot> SlotOf(uint32_t physical_id) const {
    return options_.buses.Find(physical_id);
  }
  absl::StatusOr<qmp::PciSlot> SlotOf(const DeviceSpec& device) const {
    return SlotOf(device.params.virtio_blk().physical_id());
  }
  /// Returns the place of a device that is to be plugged into `slot`.
  pci_common::Place PlaceOf(const DeviceSpec& device, const qmp::PciSlot& slot) const;
  /// Returns what the VMs show of a device.
  absl::StatusOr<pci_common::PlugState> Query(const base::Context& context,
                                              const DeviceSpec& device,
                                              pci_common::Inventories& inventories) const;
  /// Sets `place` to the new DeviceSpec::place if that succeeds.
  Outcome Plug(const base::Context& context, const DeviceSpec& device, const qmp::PciSlot& slot,
               std::string& place) const;
  /// Returns an error if a device that its VM does not have must not be plugged into it.
  absl::Status CheckPluggable(const base::Context& context, const DeviceSpec& device,
                              const pci_common::PlugState& plug) const;
  /// Unplugs the device. Returns OK if the VM no longer has it, also if the VM is gone.
  Outcome Release(const base::Context& context, const DeviceSpec& device) const;

 private:
  qmp::PciDevice FunctionOf(const DeviceSpec& device) const;

  Controllers& controllers_;
  const Options& options_;
};

}  // namespace sma::vhost_blk
