// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "agent/config/parse.h"
#include "base/unique_fd.h"

namespace sma::config {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

std::string_view Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing sets it
  return value != nullptr ? value : "";
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return absl::ErrnoToStatus(errno, fmt::format("cannot open {}", path));
  std::string text;
  char buffer[16'384];
  while (true) {
    ssize_t bytes = ::read(fd.get(), buffer, sizeof(buffer));
    if (bytes == 0) return text;
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot read {}", path));
    text.append(buffer, static_cast<size_t>(bytes));
    if (text.size() > kMaxFileBytes) {
      return absl::InvalidArgumentError(
          fmt::format("{}: larger than {} bytes", path, kMaxFileBytes));
    }
  }
}

}  // namespace

absl::StatusOr<Config> Load(const std::string& path, const Flags& flags, DeviceTypes types) {
  std::string_view sma_plugins = Environment("SMA_PLUGINS");
  if (path.empty()) return Parse("", "configuration", flags, sma_plugins, types);
  absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return text.status();
  return Parse(*text, path, flags, sma_plugins, types);
}

std::string DefaultStateDir() {
  std::string_view directory = Environment("STATE_DIRECTORY");
  // systemd separates multiple folders with colons.
  if (!directory.empty()) return std::string(directory.substr(0, directory.find(':')));
  if (::geteuid() == 0) return "/var/lib/sma";
  if (std::string_view state = Environment("XDG_STATE_HOME"); !state.empty()) {
    return fmt::format("{}/sma", state);
  }
  return fmt::format("{}/.local/state/sma", Environment("HOME"));
}

}  // namespace sma::config
