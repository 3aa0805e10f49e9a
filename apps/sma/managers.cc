// SPDX-License-Identifier: Apache-2.0

#include "sma/managers.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <utility>

#include "agent/qmp/pci_buses.h"
#include "devices/built_in/built_in.h"
#include "sma/encryption.h"

namespace sma::apps {
namespace {

using admin::v1::Plugin;

absl::Status AddBuiltInDevices(plugin::Catalog& catalog) {
  jsonrpc::Caller& target = catalog.target();
  // The QMP clients live as long as the device types that use them.
  auto vms = std::make_shared<qmp::VmClients>();
  absl::Status status;
  for (const device::BuiltInType& type : devices::BuiltInTypes()) {
    status.Update(catalog.AddDeviceType(
        {.name = std::string(type.config.name),
         .protocol = std::string(type.protocol),
         .make = [make = type.make, vms, &target](const nlohmann::json& params) {
           return make({.target = target, .vms = *vms}, params);
         }}));
  }
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
    return absl::AlreadyExistsError(fmt::format(
        "serves protocol {}, as does {}: only one device type can be enabled for a protocol",
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
    spdlog::warn("no device type is enabled: list them under `devices` in the configuration");
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
