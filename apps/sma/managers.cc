#include "sma/managers.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "agent/qmp/machines.h"
#include "devices/nvmf_tcp/nvmf_tcp_manager.h"
#include "devices/vfiouser/vfiouser_manager.h"
#include "devices/vhost_blk/vhost_blk_manager.h"
#include "sma/encryption.h"

namespace sma::apps {
namespace {

std::shared_ptr<qmp::Client> MachineAt(qmp::Machines& machines,
                                       const std::optional<config::QmpAddress>& qmp) {
  if (!qmp) return nullptr;
  return machines.At({.host = qmp->host, .port = qmp->port, .path = qmp->path});
}

qmp::Buses MakeBuses(const config::PciParams& params, qmp::Machines& machines) {
  const std::shared_ptr<qmp::Client> machine = MachineAt(machines, params.qmp);
  std::vector<qmp::Bus> buses;
  for (const config::Bus& bus : params.buses) {
    buses.push_back({.name = bus.name,
                     .slot_count = bus.count,
                     .machine = bus.qmp ? MachineAt(machines, bus.qmp) : machine});
  }
  return qmp::Buses(std::move(buses), machine != nullptr);
}

std::unique_ptr<DeviceManager> MakeVhostBlk(const config::PciParams& params,
                                            qmp::Machines& machines, jsonrpc::Caller& target) {
  vhost_blk::Options options;
  options.buses = MakeBuses(params, machines);
  options.socket_folder = params.sock_path;
  return std::make_unique<vhost_blk::VhostBlkManager>(target, std::move(options));
}

std::unique_ptr<DeviceManager> MakeVfioUser(const config::PciParams& params,
                                            qmp::Machines& machines, jsonrpc::Caller& target) {
  vfiouser::Options options;
  options.buses = MakeBuses(params, machines);
  options.socket_folder = params.sock_path;
  return std::make_unique<vfiouser::VfioUserManager>(target, std::move(options));
}

}  // namespace

absl::Status CheckSupported(const config::Config& config) {
  if (!config.plugins.empty()) {
    const config::Plugin& plugin = config.plugins.front();
    return absl::FailedPreconditionError(
        fmt::format("{}: plugin '{}': this build loads no plugins", plugin.location, plugin.name));
  }
  if (!IsBuiltInEngine(config.crypto)) {
    return absl::FailedPreconditionError(fmt::format("{}: crypto engine '{}' is not in this build",
                                                     config.crypto.location, config.crypto.engine));
  }
  return CheckEngineParams(config.crypto);
}

std::vector<std::unique_ptr<DeviceManager>> MakeManagers(const config::Config& config,
                                                         jsonrpc::Caller& target) {
  std::vector<std::unique_ptr<DeviceManager>> managers;
  qmp::Machines machines;  // the clients live as long as the device types that use them
  for (const config::Device& device : config.devices) {
    if (device.type == config::Device::Type::kNvmfTcp) {
      managers.push_back(std::make_unique<nvmf_tcp::NvmfTcpManager>(target));
    } else if (device.type == config::Device::Type::kVfioUser) {
      managers.push_back(MakeVfioUser(device.pci, machines, target));
    } else if (device.type == config::Device::Type::kVhostBlk) {
      managers.push_back(MakeVhostBlk(device.pci, machines, target));
    } else {
      // Not refused: the published example names such types, and has to start.
      spdlog::error("{}: device type '{}' is not in this build and stays disabled", device.location,
                    device.name);
    }
  }
  if (managers.empty())
    spdlog::warn("no device type is enabled: see `devices` of the configuration");
  return managers;
}

}  // namespace sma::apps
