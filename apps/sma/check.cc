// SPDX-License-Identifier: Apache-2.0

#include "sma/check.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "agent/embedded/embedded_target.h"
#include "agent/plugin/catalog.h"
#include "agent/plugin/loader.h"
#include "agent/service/tls.h"
#include "jsonrpc/caller.h"
#include "sma/encryption.h"
#include "sma/managers.h"

namespace sma::apps {
namespace {

/// Stands for the target, which is not used during the check.
class NoTarget : public jsonrpc::Caller {
 public:
  std::vector<absl::StatusOr<jsonrpc::Json>> CallMany(
      const base::Context& /*context*/, std::span<const jsonrpc::Request> requests) override {
    return std::vector<absl::StatusOr<jsonrpc::Json>>(
        requests.size(), absl::UnavailableError("only the configuration is checked"));
  }
  uint64_t generation() const override { return 0; }
  bool MayActLate(std::span<const std::string> /*objects*/,
                  std::chrono::nanoseconds /*after_loss*/) const override {
    return false;
  }
};

void Add(const absl::Status& status, std::vector<std::string>& mistakes) {
  if (!status.ok()) mistakes.emplace_back(status.message());
}

absl::Status CheckTarget(const config::Embedded& target) {
  if (!target.enabled) return absl::OkStatus();
  const std::string path = target.binary.empty() ? embedded::DefaultBinary() : target.binary;
  if (::access(path.c_str(), X_OK) == 0) return absl::OkStatus();
  return absl::NotFoundError(fmt::format("embedded.binary: {}: {}", path, std::strerror(errno)));
}

// The catalog's factories use the plugins and the target after this function, so both are kept.
void CheckPlugins(const config::Config& config, std::vector<std::string>& mistakes) {
  static NoTarget target;
  static plugin::Catalog& catalog = *new plugin::Catalog(target);
  static plugin::Loader& loader = *new plugin::Loader(catalog, config.plugin_dir);
  const absl::Status loaded = FillCatalog(config, catalog, loader);
  Add(loaded, mistakes);
  if (!loaded.ok()) return;  // the names below may be those of the plugin
  for (const config::Device& device : config.devices) {
    if (catalog.FindDeviceType(device.name) != nullptr) continue;
    mistakes.push_back(fmt::format("{}: device {}: is not known (known: {})", device.location,
                                   device.name, catalog.DeviceNames()));
  }
  if (catalog.FindCryptoEngine(config.crypto.engine) == nullptr) {
    mistakes.push_back(fmt::format("{}: crypto engine {}: is not known (known: {})",
                                   config.crypto.location, config.crypto.engine,
                                   catalog.CryptoEngineNames()));
  }
}

}  // namespace

std::vector<std::string> FindConfigMistakes(const config::Config& config) {
  std::vector<std::string> mistakes;
  // Credentials and variables are given to the service, not to whoever checks its configuration.
  if (config.sealing_key.source == config::SealingKey::Source::kFile) {
    Add(LoadSealingKey(config.sealing_key).status(), mistakes);
  }
  if (config.tls) {
    Add(service::CheckTlsFiles(
            {.cert = config.tls->cert, .key = config.tls->key, .client_ca = config.tls->client_ca}),
        mistakes);
  }
  Add(CheckTarget(config.embedded), mistakes);
  CheckPlugins(config, mistakes);
  return mistakes;
}

}  // namespace sma::apps
