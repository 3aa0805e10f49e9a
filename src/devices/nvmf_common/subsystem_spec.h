// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <vector>

#include "agent/spdk/nvmf.h"

namespace sma::nvmf_common {

/// A device that is an NVMe-oF subsystem with one listener.
struct SubsystemSpec {
  std::string nqn;
  bool allow_any_host = false;
  std::vector<std::string> hosts;
  spdk::TransportAddress listener;
  /// The serial number that marks the subsystem as the device's (DeviceSpec::mark). A subsystem
  /// with the same NQN and another serial number belongs to another client. If it is empty, it is
  /// unknown, and any serial number is accepted.
  std::string serial_number;
};

/// Returns a new mark for a device to be created: 20 printable characters (NVMe Base 2.0 §5.17.2.1,
/// SN), different for each call. Thread-safe.
std::string NewSerialNumber();

}  // namespace sma::nvmf_common
