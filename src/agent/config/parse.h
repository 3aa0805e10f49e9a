#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/config/config.h"

namespace sma::config {

/// What the command line gives; it wins over the file.
struct Flags {
  std::optional<std::string> address;
  std::optional<uint16_t> port;
  std::optional<std::string> socket;
  std::optional<std::string> state_dir;
  bool embedded = false;
  bool embedded_stop = false;
};

/// Reads a configuration. `file` is its name for messages; `sma_plugins` is the value of
/// SMA_PLUGINS, names separated by colons. INVALID_ARGUMENT names file, line and reason of
/// everything that is wrong, one a line.
absl::StatusOr<Config> Parse(std::string_view text, std::string_view file, const Flags& flags,
                             std::string_view sma_plugins);

/// Parse() of the file at `path` (nothing where that is empty), with SMA_PLUGINS from the
/// environment. NOT_FOUND, PERMISSION_DENIED or another code where the file cannot be read. Blocks.
absl::StatusOr<Config> Load(const std::string& path, const Flags& flags);

/// Where the record is kept when the configuration says nothing: what systemd gives as
/// STATE_DIRECTORY, else /var/lib/sma for the superuser, else `sma` below XDG_STATE_HOME or
/// ~/.local/state.
std::string DefaultStateDir();

}  // namespace sma::config
