#include "sma/managers.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <utility>

#include "agent/config/devices.h"
#include "agent/qmp/machines.h"
#include "devices/nvmf_tcp/nvmf_tcp_manager.h"
#include "devices/vfiouser/vfiouser_manager.h"
#include "devices/vhost_blk/vhost_blk_manager.h"
#include "sma/encryption.h"

namespace sma::apps {
namespace {

using admin::v1::Plugin;

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

// For the types that are PCI functions, whose options have the same names.
absl::StatusOr<std::unique_ptr<DeviceManager>> MakeVfioUser(const nlohmann::json& params,
                                                            qmp::Machines& machines,
                                                            jsonrpc::Caller& target) {
  absl::StatusOr<config::PciParams> pci =
      config::ParsePciParams(params, config::Device::Type::kVfioUser);
  if (!pci.ok()) return pci.status();
  vfiouser::Options options;
  options.buses = MakeBuses(*pci, machines);
  options.socket_folder = pci->sock_path;
  options.msix = pci->msix;
  return std::make_unique<vfiouser::VfioUserManager>(target, std::move(options));
}

absl::StatusOr<std::unique_ptr<DeviceManager>> MakeVhostBlk(const nlohmann::json& params,
                                                            qmp::Machines& machines,
                                                            jsonrpc::Caller& target) {
  absl::StatusOr<config::PciParams> pci =
      config::ParsePciParams(params, config::Device::Type::kVhostBlk);
  if (!pci.ok()) return pci.status();
  vhost_blk::Options options;
  options.buses = MakeBuses(*pci, machines);
  options.socket_folder = pci->sock_path;
  options.packed_ring = pci->packed_ring;
  return std::make_unique<vhost_blk::VhostBlkManager>(target, std::move(options));
}

absl::Status AddBuiltInDevices(plugin::Catalog& catalog) {
  using nlohmann::json;
  jsonrpc::Caller& target = catalog.target();
  // The clients live as long as the device types that use them.
  auto machines = std::make_shared<qmp::Machines>();
  absl::Status status = catalog.AddDeviceType(
      {.name = "nvmf_tcp", .protocol = "nvmf_tcp", .make = [&target](const json&) {
         return std::make_unique<nvmf_tcp::NvmfTcpManager>(target);
       }});
  status.Update(catalog.AddDeviceType(
      {.name = "vfiouser", .protocol = "nvme", .make = [machines, &target](const json& params) {
         return MakeVfioUser(params, *machines, target);
       }}));
  status.Update(catalog.AddDeviceType({.name = "vhost_blk",
                                       .protocol = "virtio_blk",
                                       .make = [machines, &target](const json& params) {
                                         return MakeVhostBlk(params, *machines, target);
                                       }}));
  return status;
}

absl::Status AddBuiltInEngines(plugin::Catalog& catalog) {
  jsonrpc::Caller& target = catalog.target();
  absl::Status status;
  for (const char* name : {"nop", "bdev_crypto"}) {
    status.Update(catalog.AddCryptoEngine(
        {.name = name, .make = [name, &target](const nlohmann::json& params) {
           return MakeBuiltInEngine({.engine = name, .params = params, .location = ""}, target);
         }}));
  }
  return status;
}

absl::Status At(const std::string& location, std::string_view name, const absl::Status& error) {
  return absl::Status(error.code(),
                      fmt::format("{}: {}: {}", location, name, std::string(error.message())));
}

absl::Status CheckProtocol(const std::vector<std::unique_ptr<DeviceManager>>& managers,
                           const DeviceFactory& factory) {
  for (const auto& other : managers) {
    if (other->protocol() != factory.protocol) continue;
    return absl::AlreadyExistsError(
        fmt::format("is for protocol {}, and so is {}: only one of a protocol can be enabled",
                    factory.protocol, other->name()));
  }
  return absl::OkStatus();
}

Plugin::Kind KindOf(const plugin::Origin& origin) {
  switch (origin.kind) {
    case plugin::Kind::kBuiltIn:
      return Plugin::KIND_BUILT_IN;
    case plugin::Kind::kNative:
      return Plugin::KIND_NATIVE;
    case plugin::Kind::kPython:
      return Plugin::KIND_PYTHON;
  }
  return Plugin::KIND_UNSPECIFIED;
}

}  // namespace

absl::Status CheckSupported(const config::Config& config) {
  if (IsBuiltInEngine(config.crypto)) return CheckEngineParams(config.crypto);
  if (!config.plugins.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format("{}: crypto engine '{}' is not in this build",
                                                   config.crypto.location, config.crypto.engine));
}

absl::Status FillCatalog(const config::Config& config, plugin::Catalog& catalog,
                         plugin::Loader& loader) {
  absl::Status status = AddBuiltInDevices(catalog);
  status.Update(AddBuiltInEngines(catalog));
  for (const config::Plugin& plugin : config.plugins) {
    if (!status.ok()) return status;
    status = loader.Load(plugin.name);
    if (!status.ok()) return At(plugin.location, "plugin " + plugin.name, status);
  }
  return status;
}

absl::StatusOr<std::unique_ptr<CryptoEngine>> MakeEngine(const config::Config& config,
                                                         const plugin::Catalog& catalog) {
  const std::string what = "crypto engine " + config.crypto.engine;
  const CryptoEngineFactory* factory = catalog.FindCryptoEngine(config.crypto.engine);
  if (factory == nullptr) {
    return At(
        config.crypto.location, what,
        absl::NotFoundError(fmt::format("is not known (known: {})", catalog.CryptoEngineNames())));
  }
  auto engine = factory->make(config.crypto.params);
  if (!engine.ok()) return At(config.crypto.location, what, engine.status());
  return engine;
}

absl::StatusOr<std::vector<std::unique_ptr<DeviceManager>>> MakeManagers(
    const config::Config& config, const plugin::Catalog& catalog) {
  std::vector<std::unique_ptr<DeviceManager>> managers;
  for (const config::Device& device : config.devices) {
    const std::string what = "device " + device.name;
    const DeviceFactory* factory = catalog.FindDeviceType(device.name);
    if (factory == nullptr) {
      return At(
          device.location, what,
          absl::NotFoundError(fmt::format("is not known (known: {})", catalog.DeviceNames())));
    }
    absl::Status status = CheckProtocol(managers, *factory);
    if (!status.ok()) return At(device.location, what, status);
    auto manager = factory->make(device.params);
    if (!manager.ok()) return At(device.location, what, manager.status());
    managers.push_back(*std::move(manager));
  }
  if (managers.empty()) {
    spdlog::warn("no device type is enabled: see `devices` of the configuration");
  }
  return managers;
}

std::vector<Plugin> ListPlugins(const config::Config& config, const plugin::Catalog& catalog) {
  std::vector<Plugin> plugins;
  for (const auto& entry : catalog.device_types()) {
    Plugin& plugin = plugins.emplace_back();
    plugin.set_name(entry.factory.name);
    plugin.set_kind(KindOf(entry.origin));
    plugin.set_role(Plugin::ROLE_DEVICE);
    plugin.set_protocol(entry.factory.protocol);
    plugin.set_source(entry.origin.source);
    plugin.set_enabled(std::any_of(
        config.devices.begin(), config.devices.end(),
        [&](const config::Device& device) { return device.name == entry.factory.name; }));
  }
  for (const auto& entry : catalog.crypto_engines()) {
    Plugin& plugin = plugins.emplace_back();
    plugin.set_name(entry.factory.name);
    plugin.set_kind(KindOf(entry.origin));
    plugin.set_role(Plugin::ROLE_CRYPTO_ENGINE);
    plugin.set_source(entry.origin.source);
    plugin.set_enabled(entry.factory.name == config.crypto.engine);
  }
  return plugins;
}

}  // namespace sma::apps
