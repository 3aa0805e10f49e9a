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
#include "devices/vfiouser/options.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"
#include "sma/outcome.h"

namespace sma::vfiouser {

/// The NVMe functions that devices have in VMs, if the configuration plugs them. All methods that
/// take a context block while they query a VM. Thread-safe.
class VmFunctions {
 public:
  /// Both references must outlive this object.
  VmFunctions(jsonrpc::Caller& target, const Options& options)
      : target_(target), options_(options) {}

  /// Returns the folder that contains the device's socket.
  std::string FolderOf(const DeviceSpec& device) const;
  /// Returns the slot that the configuration has for the device; an error if it has none.
  absl::StatusOr<qmp::PciSlot> SlotOf(const DeviceSpec& device) const;
  /// Returns what the VMs show of a device.
  absl::StatusOr<pci_common::PlugState> Query(const base::Context& context,
                                              const DeviceSpec& device,
                                              pci_common::Inventories& inventories) const;
  /// Plugs the device. If the VM already has a function with the device's name, the function is
  /// replaced if `is_recorded` is true, because it then belongs to the device; otherwise returns
  /// ALREADY_EXISTS. Sets `place` to the new DeviceSpec::place on success.
  Outcome Plug(const base::Context& context, const DeviceSpec& device, bool is_recorded,
               std::string& place) const;
  /// Unplugs the device. Returns OK if the VM no longer has it, also if the VM is gone.
  Outcome Release(const base::Context& context, const DeviceSpec& device) const;

  /// Returns ALREADY_EXISTS, for a function that the VM has although the device does not exist.
  static absl::Status NotPluggedHere(const std::string& name);

 private:
  qmp::PciDevice FunctionOf(const DeviceSpec& device) const;
  absl::Status CheckNotUsed(const base::Context& context, const DeviceSpec& device) const;

  jsonrpc::Caller& target_;
  const Options& options_;
};

}  // namespace sma::vfiouser
