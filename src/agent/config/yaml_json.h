#pragma once

#include <nlohmann/json.hpp>

#include "agent/config/yaml_map.h"

namespace sma::config {

/// The parameters of a plugin or a crypto engine: a mapping of any content, as JSON. Plain scalars
/// become numbers, booleans and null as YAML reads them (YAML 1.2 §10.3), the rest text. A problem,
/// and an empty object, where it is no mapping, nests too deep or is too large (aliases count as
/// often as they are used). Without value: an empty object.
nlohmann::json ParamsToJson(const Value& value, Problems& problems);

}  // namespace sma::config
