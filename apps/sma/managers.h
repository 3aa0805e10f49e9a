#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "agent/config/config.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::apps {

/// FAILED_PRECONDITION, with the place in the configuration: it asks for something that this build
/// does not have.
absl::Status CheckSupported(const config::Config& config);

/// The device types that a supported configuration enables. `target` outlives them.
std::vector<std::unique_ptr<DeviceManager>> MakeManagers(const config::Config& config,
                                                         jsonrpc::Caller& target);

}  // namespace sma::apps
