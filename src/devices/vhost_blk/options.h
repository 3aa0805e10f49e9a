// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <string>

#include "agent/qmp/pci_buses.h"

namespace sma::vhost_blk {

struct Options {
  qmp::Buses buses{{}, false};
  /// The path at which QEMU sees the folder of the controllers' sockets.
  std::string socket_folder = "/var/tmp";
  /// VMs may use packed virtqueues.
  bool packed_ring = false;
  /// How long a call waits for the guest to release a device.
  std::chrono::nanoseconds unplug_wait = std::chrono::seconds(8);
  /// How long to wait for a controller that is still in use after its device was unplugged.
  std::chrono::nanoseconds busy_wait = std::chrono::seconds(5);
  /// If QEMU has been unreachable for this long and has no session with the controller, deleting a
  /// device treats its VM as removed.
  std::chrono::nanoseconds gone_after = std::chrono::seconds(30);
};

}  // namespace sma::vhost_blk
