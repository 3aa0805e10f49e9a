// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/config/devices.h"
#include "agent/qmp/pci_buses.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::device {

/// The clients that the agent shares with its built-in device types. Each must outlive the
/// managers.
struct SharedClients {
  jsonrpc::Caller& target;
  qmp::VmClients& vms;
};

/// A built-in device type, defined in the type's own folder.
struct BuiltInType {
  config::DeviceType config;  // its name, and the check of its parameters
  std::string_view protocol;  // DeviceManager::protocol
  /// Creates the manager from `params`, a JSON object. Returns INVALID_ARGUMENT if they are
  /// invalid.
  absl::StatusOr<std::unique_ptr<DeviceManager>> (*make)(const SharedClients& clients,
                                                         const nlohmann::json& params);
};

}  // namespace sma::device
