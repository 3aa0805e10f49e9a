#pragma once

#include <yaml-cpp/yaml.h>

#include <string_view>

#include "agent/config/yaml_map.h"

namespace sma::config {

/// The one YAML document that `text` is; a null node where there is none or the text is a problem.
/// Any bytes may be given.
YAML::Node ReadDocument(std::string_view text, Problems& problems);

}  // namespace sma::config
