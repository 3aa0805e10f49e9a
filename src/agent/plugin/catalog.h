// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "jsonrpc/caller.h"
#include "sma/plugin.h"

namespace sma::plugin {

enum class Kind { kBuiltIn, kNative, kPython };

/// The origin of a registered factory.
struct Origin {
  Kind kind = Kind::kBuiltIn;
  std::string source;  // path of the shared library, or the module; empty for built-in types
};

/// All device types and crypto engines that the configuration can name: built-in ones and those of
/// plugins. Filled by one thread at start-up.
class Catalog : public PluginRegistry {
 public:
  template <typename Factory>
  struct Entry {
    Factory factory;
    Origin origin;
  };

  /// `target` must outlive the catalog and the objects that its factories create.
  explicit Catalog(jsonrpc::Caller& target) : target_(target) {}

  /// Sets the origin of all factories that are added from now on.
  void set_origin(Origin origin) { origin_ = std::move(origin); }

  jsonrpc::Caller& target() override { return target_; }
  absl::Status AddDeviceType(DeviceFactory factory) override;
  absl::Status AddCryptoEngine(CryptoEngineFactory factory) override;

  /// Returns null if no type has this name.
  const DeviceFactory* FindDeviceType(std::string_view name) const;
  const CryptoEngineFactory* FindCryptoEngine(std::string_view name) const;

  const std::vector<Entry<DeviceFactory>>& device_types() const { return device_types_; }
  const std::vector<Entry<CryptoEngineFactory>>& crypto_engines() const { return crypto_engines_; }

  /// Returns the comma-separated names, for messages.
  std::string DeviceNames() const;
  std::string CryptoEngineNames() const;

 private:
  jsonrpc::Caller& target_;
  Origin origin_;
  std::vector<Entry<DeviceFactory>> device_types_;
  std::vector<Entry<CryptoEngineFactory>> crypto_engines_;
};

}  // namespace sma::plugin
