// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "jsonrpc/caller.h"
#include "sma/crypto_engine.h"
#include "sma/device_manager.h"

namespace sma {

/// The version of the interface in include/sma. The agent loads only plugins that were built with
/// the same version.
inline constexpr uint32_t kPluginInterfaceVersion = 3;

/// A device type that can be enabled under `devices`.
struct DeviceFactory {
  std::string name;      // DeviceManager::name
  std::string protocol;  // DeviceManager::protocol
  /// Creates the manager. `params` is the JSON object from the configuration. Returns
  /// INVALID_ARGUMENT if it is invalid. Called at most once; the target may not be connected yet.
  std::function<absl::StatusOr<std::unique_ptr<DeviceManager>>(const nlohmann::json& params)> make;
};

/// A crypto engine that `crypto` can name.
struct CryptoEngineFactory {
  std::string name;  // CryptoEngine::name
  /// Same contract as DeviceFactory::make.
  std::function<absl::StatusOr<std::unique_ptr<CryptoEngine>>(const nlohmann::json& params)> make;
};

/// Registers the device types and crypto engines of a plugin; built-in ones are registered in the
/// same way. Valid only during Plugin::load and on the thread that runs it.
class PluginRegistry {
 public:
  virtual ~PluginRegistry() = default;

  /// Returns the connection to the target, which outlives all managers and engines.
  virtual jsonrpc::Caller& target() = 0;

  /// Returns ALREADY_EXISTS if the name is taken.
  virtual absl::Status AddDeviceType(DeviceFactory factory) = 0;
  virtual absl::Status AddCryptoEngine(CryptoEngineFactory factory) = 0;
};

/// The object that a shared library exports as `sma_plugin`.
struct Plugin {
  uint32_t interface_version;
  /// Registers the library's device types and engines with `registry`. If it returns an error, the
  /// agent does not start.
  absl::Status (*load)(PluginRegistry& registry);
};

}  // namespace sma

/// Turns a shared library into a plugin by exporting the one C symbol that a plugin needs.
/// `load_function` is Plugin::load.
#define SMA_PLUGIN(load_function)                                                   \
  extern "C" __attribute__((visibility("default"))) const ::sma::Plugin sma_plugin; \
  extern "C" const ::sma::Plugin sma_plugin = {::sma::kPluginInterfaceVersion, (load_function)};
