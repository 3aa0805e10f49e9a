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

/// The version of all that is in include/sma. A plugin works with an agent of the same version
/// only.
inline constexpr uint32_t kPluginInterfaceVersion = 3;

/// A device type that can be enabled under `devices`.
struct DeviceFactory {
  std::string name;      // DeviceManager::name
  std::string protocol;  // DeviceManager::protocol
  /// Makes its manager from `params` of the configuration, an object. INVALID_ARGUMENT: they are no
  /// good. Called once at most, before the target is known to answer.
  std::function<absl::StatusOr<std::unique_ptr<DeviceManager>>(const nlohmann::json& params)> make;
};

/// A crypto engine that `crypto` can name.
struct CryptoEngineFactory {
  std::string name;  // CryptoEngine::name
  /// As DeviceFactory::make.
  std::function<absl::StatusOr<std::unique_ptr<CryptoEngine>>(const nlohmann::json& params)> make;
};

/// Where a plugin tells what it brings; the agent's own types are told in the same way. For the
/// time of loading only, and for one thread.
class PluginRegistry {
 public:
  virtual ~PluginRegistry() = default;

  /// The target. Outlives all that plugins make.
  virtual jsonrpc::Caller& target() = 0;

  /// ALREADY_EXISTS: the name is taken.
  virtual absl::Status AddDeviceType(DeviceFactory factory) = 0;
  virtual absl::Status AddCryptoEngine(CryptoEngineFactory factory) = 0;
};

/// What a shared library exports as `sma_plugin`.
struct Plugin {
  uint32_t interface_version;
  /// Tells `registry` what the library brings. An error keeps the agent from starting.
  absl::Status (*load)(PluginRegistry& registry);
};

}  // namespace sma

/// Makes a shared library a plugin: exports its one C symbol. `load_function` as Plugin::load.
#define SMA_PLUGIN(load_function)                                                   \
  extern "C" __attribute__((visibility("default"))) const ::sma::Plugin sma_plugin; \
  extern "C" const ::sma::Plugin sma_plugin = {::sma::kPluginInterfaceVersion, (load_function)};
