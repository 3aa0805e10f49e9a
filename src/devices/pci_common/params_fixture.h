// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/config/params.h"
#include "agent/config/parse.h"

namespace sma::pci_common {

/// For tests: returns the result of `read` for `params`, placed on line 4 of the configuration file
/// "sma.yaml" as parameters of a device of `type`. Reads them twice, as the agent does: as YAML,
/// then as JSON.
template <typename Params>
absl::StatusOr<Params> ParseParams(const config::DeviceType& type,
                                   Params (*read)(config::YamlMap& map), std::string_view params) {
  const std::string text =
      fmt::format("devices:\n- name: {}\n  params:\n    {}\n", type.name, params);
  absl::StatusOr<config::Config> config = config::Parse(text, "sma.yaml", {}, "", {&type, 1});
  if (!config.ok()) return config.status();
  return config::ReadParams(config->devices.at(0).params, read);
}

}  // namespace sma::pci_common
