// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/statusor.h"
#include "agent/config/params.h"
#include "agent/device/built_in_type.h"
#include "devices/pci_common/pci_params.h"

namespace sma::pci_common {

/// Creates the manager of a device type whose Params have a member `pci`, and whose Options have
/// `buses` and `socket_folder`. `apply` sets the type's own options. Returns INVALID_ARGUMENT if
/// the parameters are invalid.
template <typename Manager, typename Params, typename Options>
absl::StatusOr<std::unique_ptr<DeviceManager>> MakeManager(
    const device::SharedClients& clients, const nlohmann::json& json,
    Params (*read)(config::YamlMap& map), void (*apply)(const Params& params, Options& options)) {
  absl::StatusOr<Params> params = config::ReadParams(json, read);
  if (!params.ok()) return params.status();
  Options options;
  options.buses = MakeBuses(params->pci, clients.vms);
  options.socket_folder = params->pci.sock_path;
  apply(*params, options);
  return std::make_unique<Manager>(clients.target, std::move(options));
}

}  // namespace sma::pci_common
