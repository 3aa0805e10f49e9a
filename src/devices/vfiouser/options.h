// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <string>

#include "agent/qmp/pci_buses.h"

namespace sma::vfiouser {

struct Options {
  qmp::Buses buses{{}, false};
  /// The folder that contains, for each device, a folder with the socket that the target and QEMU
  /// use.
  std::string socket_folder = "/var/tmp";
  /// If true, controllers have MSI-X instead of MSI. Applies only if the agent creates the
  /// transport; targets without this option (SPDK) ignore it.
  bool msix = false;
  /// How long a call waits for the guest to release a device.
  std::chrono::nanoseconds unplug_wait = std::chrono::seconds(8);
  /// If nothing has listened at QEMU's address for this time, the VM is treated as removed when a
  /// device is deleted.
  std::chrono::nanoseconds gone_after = std::chrono::seconds(30);
};

}  // namespace sma::vfiouser
