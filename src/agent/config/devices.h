#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/config/config.h"
#include "agent/config/yaml_map.h"

namespace sma::config {

/// Reads `devices`. A name that is no built-in device type is a plugin's where `has_plugins`, else
/// a problem.
std::vector<Device> ReadDevices(YamlMap& top, bool has_plugins, Problems& problems);

/// `params` of `vfiouser` or `vhost_blk`, which is what `type` says, in another form than YAML.
/// INVALID_ARGUMENT: a key or value is no good.
absl::StatusOr<PciParams> ParsePciParams(const nlohmann::json& params, Device::Type type);

}  // namespace sma::config
