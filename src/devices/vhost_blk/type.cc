// SPDX-License-Identifier: Apache-2.0

#include "devices/vhost_blk/type.h"

#include <memory>

#include "devices/pci_common/pci_type.h"
#include "devices/vhost_blk/vhost_blk_manager.h"

namespace sma::vhost_blk {
namespace {

absl::StatusOr<std::unique_ptr<DeviceManager>> Make(const device::SharedClients& clients,
                                                    const nlohmann::json& json) {
  return pci_common::MakeManager<VhostBlkManager, Params, Options>(
      clients, json, &ReadParams,
      [](const Params& params, Options& options) { options.packed_ring = params.packed_ring; });
}

}  // namespace

Params ReadParams(config::YamlMap& map) {
  Params params;
  params.pci = pci_common::ReadPciParams(map);
  params.packed_ring = map.Bool("packed_ring", false);
  return params;
}

device::BuiltInType Type() {
  return {.config = {.name = "vhost_blk",
                     .other_name = "vhost-blk",
                     .check = [](config::YamlMap& params) { ReadParams(params); }},
          .protocol = "virtio_blk",
          .make = &Make};
}

}  // namespace sma::vhost_blk
