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
  /// The serial number that marks the subsystem as the device's, DeviceSpec::mark. A subsystem of
  /// the same NQN with another one is somebody else's. Empty: not known, so that any is accepted.
  std::string serial_number;
};

/// A new mark for a device that is about to be created: 20 printable characters (NVMe Base 2.0
/// §5.17.2.1, SN), different for each call. Thread-safe.
std::string NewSerialNumber();

}  // namespace sma::nvmf_common
