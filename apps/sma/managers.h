#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/config/config.h"
#include "agent/plugin/catalog.h"
#include "agent/plugin/loader.h"
#include "sma/crypto_engine.h"
#include "sma/device_manager.h"
#include "sma_admin.pb.h"

namespace sma::apps {

/// FAILED_PRECONDITION, with the place in the configuration: it asks for something that this build
/// does not have.
absl::Status CheckSupported(const config::Config& config);

/// Fills `catalog` with what is built in, then with what the plugins of `config` bring. The error
/// names the plugin and says why it cannot be loaded.
absl::Status FillCatalog(const config::Config& config, plugin::Catalog& catalog,
                         plugin::Loader& loader);

/// The device types that `config` enables. NOT_FOUND: one is not in `catalog`. ALREADY_EXISTS: two
/// are for one protocol. Else why its manager cannot be made.
absl::StatusOr<std::vector<std::unique_ptr<DeviceManager>>> MakeManagers(
    const config::Config& config, const plugin::Catalog& catalog);

/// The crypto engine that `config` names. Errors as MakeManagers.
absl::StatusOr<std::unique_ptr<CryptoEngine>> MakeEngine(const config::Config& config,
                                                         const plugin::Catalog& catalog);

/// All that can be enabled, for ListPlugins.
std::vector<admin::v1::Plugin> ListPlugins(const config::Config& config,
                                           const plugin::Catalog& catalog);

}  // namespace sma::apps
