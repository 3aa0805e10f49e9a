#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/config/config.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::apps {

/// The device types that the configuration enables. `target` outlives them. FAILED_PRECONDITION,
/// with the place in the configuration: something is asked for that this build does not have.
absl::StatusOr<std::vector<std::unique_ptr<DeviceManager>>> MakeManagers(
    const config::Config& config, jsonrpc::Caller& target);

}  // namespace sma::apps
