// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "agent/config/yaml_document.h"
#include "agent/config/yaml_map.h"

namespace sma::config {

/// Reads parameters that are given as a JSON object, with the same `read` function as parameters in
/// the configuration file. Returns INVALID_ARGUMENT if a key or a value is invalid.
template <typename Params>
absl::StatusOr<Params> ReadParams(const nlohmann::json& json, Params (*read)(YamlMap& map)) {
  Problems problems("params");
  // JSON is a subset of YAML.
  YamlMap map({.name = "", .line = 1, .node = ReadDocument(json.dump(), problems)}, problems);
  Params params = read(map);
  map.RefuseUnknownKeys();
  absl::Status status = problems.ToStatus();
  if (!status.ok()) return status;
  return params;
}

}  // namespace sma::config
