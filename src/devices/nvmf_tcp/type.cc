// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_tcp/type.h"

#include <memory>

#include "devices/nvmf_tcp/nvmf_tcp_manager.h"

namespace sma::nvmf_tcp {

device::BuiltInType Type() {
  return {.config = {.name = "nvmf_tcp", .check = [](config::YamlMap& /*params*/) {}},
          .protocol = "nvmf_tcp",
          .make = [](const device::SharedClients& clients, const nlohmann::json& /*params*/)
              -> absl::StatusOr<std::unique_ptr<DeviceManager>> {
            return std::make_unique<NvmfTcpManager>(clients.target);
          }};
}

}  // namespace sma::nvmf_tcp
