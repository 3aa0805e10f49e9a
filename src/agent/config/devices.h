// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "agent/config/config.h"
#include "agent/config/yaml_map.h"

namespace sma::config {

/// A device type whose parameters are checked together with the rest of the file.
struct DeviceType {
  std::string_view name;          // as in `devices`
  std::string_view other_name{};  // alternative spelling; may be empty
  /// Reads all keys of the entry's `params`. Errors are added to the map's problems.
  void (*check)(YamlMap& params) = nullptr;
};
using DeviceTypes = std::span<const DeviceType>;

/// Reads `devices`. A name that is not in `types` belongs to a plugin if `has_plugins` is set, and
/// is an error otherwise.
std::vector<Device> ReadDevices(YamlMap& top, DeviceTypes types, bool has_plugins,
                                Problems& problems);

}  // namespace sma::config
