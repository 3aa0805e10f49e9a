// SPDX-License-Identifier: Apache-2.0

#include "devices/vfiouser/type.h"

#include <memory>
#include <string>

#include <fmt/format.h>

#include "devices/pci_common/pci_type.h"
#include "devices/vfiouser/vfiouser_manager.h"

namespace sma::vfiouser {
namespace {

// Reads `interrupts`; returns true for MSI-X.
bool ReadIsMsix(config::YamlMap& map) {
  const std::string interrupts = map.String("interrupts", "msi");
  if (interrupts != "msi" && interrupts != "msix") {
    map.AddProblem("interrupts",
                   fmt::format("'interrupts': '{}' is neither 'msi' nor 'msix'", interrupts));
  }
  return interrupts == "msix";
}

absl::StatusOr<std::unique_ptr<DeviceManager>> Make(const device::SharedClients& clients,
                                                    const nlohmann::json& json) {
  return pci_common::MakeManager<VfioUserManager, Params, Options>(
      clients, json, &ReadParams,
      [](const Params& params, Options& options) { options.msix = params.msix; });
}

}  // namespace

Params ReadParams(config::YamlMap& map) {
  Params params;
  params.pci = pci_common::ReadPciParams(map);
  params.msix = ReadIsMsix(map);
  return params;
}

device::BuiltInType Type() {
  return {
      .config = {.name = "vfiouser", .check = [](config::YamlMap& params) { ReadParams(params); }},
      .protocol = "nvme",
      .make = &Make};
}

}  // namespace sma::vfiouser
