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

/// Where something came from.
struct Origin {
  Kind kind = Kind::kBuiltIn;
  std::string source;  // the shared library's path, or the module; empty for what is built in
};

/// All device types and crypto engines that can be named in the configuration: built in, and from
/// plugins. Filled at start by one thread.
class Catalog : public PluginRegistry {
 public:
  template <typename Factory>
  struct Entry {
    Factory factory;
    Origin origin;
  };

  /// `target` outlives the catalog and what it makes.
  explicit Catalog(jsonrpc::Caller& target) : target_(target) {}

  /// Of what is added from now on.
  void set_origin(Origin origin) { origin_ = std::move(origin); }

  jsonrpc::Caller& target() override { return target_; }
  absl::Status AddDeviceType(DeviceFactory factory) override;
  absl::Status AddCryptoEngine(CryptoEngineFactory factory) override;

  /// Null when there is none of this name.
  const DeviceFactory* FindDeviceType(std::string_view name) const;
  const CryptoEngineFactory* FindCryptoEngine(std::string_view name) const;

  const std::vector<Entry<DeviceFactory>>& device_types() const { return device_types_; }
  const std::vector<Entry<CryptoEngineFactory>>& crypto_engines() const { return crypto_engines_; }

  /// Names, separated by commas, for messages.
  std::string DeviceNames() const;
  std::string CryptoEngineNames() const;

 private:
  jsonrpc::Caller& target_;
  Origin origin_;
  std::vector<Entry<DeviceFactory>> device_types_;
  std::vector<Entry<CryptoEngineFactory>> crypto_engines_;
};

}  // namespace sma::plugin
