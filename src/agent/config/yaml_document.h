// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <yaml-cpp/yaml.h>

#include <string_view>

#include "agent/config/yaml_map.h"

namespace sma::config {

/// Parses `text` as one YAML document. Returns a null node if the text is empty or if a problem was
/// added. `text` may contain any bytes.
YAML::Node ReadDocument(std::string_view text, Problems& problems);

}  // namespace sma::config
