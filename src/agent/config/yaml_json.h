// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <nlohmann/json.hpp>

#include "agent/config/yaml_map.h"

namespace sma::config {

/// Converts the parameters of a plugin or crypto engine, a mapping with any content, to JSON. Plain
/// scalars become numbers, booleans and null as in YAML 1.2 §10.3, and all others become strings.
/// Adds a problem and returns an empty object if the value is not a mapping, is nested too deeply
/// or is too large (aliases count each time they are used). A key without a value becomes an empty
/// object.
nlohmann::json ParamsToJson(const Value& value, Problems& problems);

}  // namespace sma::config
