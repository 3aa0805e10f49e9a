#pragma once

#include <vector>

#include "agent/config/config.h"
#include "agent/config/yaml_map.h"

namespace sma::config {

/// Reads `devices`. A name that is no built-in device type is a plugin's where `has_plugins`, else
/// a problem.
std::vector<Device> ReadDevices(YamlMap& top, bool has_plugins, Problems& problems);

}  // namespace sma::config
