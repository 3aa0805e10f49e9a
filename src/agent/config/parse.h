// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/config/config.h"
#include "agent/config/devices.h"

namespace sma::config {

/// Values from the command line, which override the file.
struct Flags {
  std::optional<std::string> address;
  std::optional<uint16_t> port;
  std::optional<std::string> socket;
  std::optional<std::string> state_dir;
  bool embedded = false;
  bool embedded_stop = false;
};

/// Parses a configuration. `file` is its name in messages; `sma_plugins` is the value of
/// SMA_PLUGINS, names separated by colons; `types` are the built-in device types. Returns
/// INVALID_ARGUMENT with one line for each error: file, line and reason.
absl::StatusOr<Config> Parse(std::string_view text, std::string_view file, const Flags& flags,
                             std::string_view sma_plugins, DeviceTypes types);

/// Parses the file at `path`, with SMA_PLUGINS from the environment. If `path` is empty, there is
/// no file. Returns NOT_FOUND, PERMISSION_DENIED or another code if the file cannot be read.
/// Blocks.
absl::StatusOr<Config> Load(const std::string& path, const Flags& flags, DeviceTypes types);

/// Returns the default folder of the record: STATE_DIRECTORY from systemd, otherwise /var/lib/sma
/// for root, otherwise `sma` below XDG_STATE_HOME or ~/.local/state.
std::string DefaultStateDir();

}  // namespace sma::config
