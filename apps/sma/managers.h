// SPDX-License-Identifier: Apache-2.0

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

/// Checks that this build has everything that the configuration names. Otherwise returns
/// FAILED_PRECONDITION with the place in the configuration.
absl::Status CheckSupported(const config::Config& config);

/// Fills `catalog` with the built-in device types and crypto engines, then with those of the
/// plugins in `config`. The error names the plugin and says why it cannot be loaded.
absl::Status FillCatalog(const config::Config& config, plugin::Catalog& catalog,
                         plugin::Loader& loader);

/// Creates the managers of the device types that `config` enables. Returns NOT_FOUND if one is not
/// in `catalog`, ALREADY_EXISTS if two have the same protocol, or the error of a manager that
/// cannot be created.
absl::StatusOr<std::vector<std::unique_ptr<DeviceManager>>> MakeManagers(
    const config::Config& config, const plugin::Catalog& catalog);

/// Creates the crypto engine that `config` names. Returns the same errors as MakeManagers.
absl::StatusOr<std::unique_ptr<CryptoEngine>> MakeEngine(const config::Config& config,
                                                         const plugin::Catalog& catalog);

/// Returns all device types and crypto engines that can be enabled, for ListPlugins.
std::vector<admin::v1::Plugin> ListPlugins(const config::Config& config,
                                           const plugin::Catalog& catalog);

}  // namespace sma::apps
