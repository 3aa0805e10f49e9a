// SPDX-License-Identifier: Apache-2.0

#include "agent/config/parse.h"

#include <fmt/format.h>
#include <sys/un.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "agent/config/devices.h"
#include "agent/config/host_port.h"
#include "agent/config/yaml_document.h"
#include "agent/config/yaml_json.h"
#include "agent/config/yaml_map.h"

namespace sma::config {
namespace {

using std::chrono::hours;

constexpr milliseconds kLongest = hours(24 * 7);
constexpr size_t kLongestSocketPath = sizeof(sockaddr_un::sun_path) - 1;

void CheckSocketPath(std::string_view name, std::string_view path, int line, Problems& problems) {
  if (!path.starts_with('/') || path.size() > kLongestSocketPath) {
    problems.Add(
        line, fmt::format("'{}' must be an absolute path of at most {} characters, not '{}'", name,
                          kLongestSocketPath, path));
  }
}

/// Converts an address to the normalized form that Config documents.
std::string NormalizeListenAddress(std::string address, int line, Problems& problems) {
  constexpr std::string_view kUnix = "unix:";
  if (address.starts_with(kUnix)) {
    std::string_view path = std::string_view(address).substr(kUnix.size());
    if (path.starts_with("///")) path.remove_prefix(2);
    CheckSocketPath("address", path, line, problems);
    return fmt::format("unix:{}", path);
  }
  std::string host(StripBrackets(address));
  if (!IsHost(host)) {
    problems.Add(
        line,
        fmt::format("'address' must be an address, a host name or unix:PATH, not '{}'", address));
  }
  return host;
}

void AddPlugin(std::vector<Plugin>& plugins, std::string name, std::string location) {
  bool known = std::any_of(plugins.begin(), plugins.end(),
                           [&](const Plugin& plugin) { return plugin.name == name; });
  if (!known) plugins.push_back({std::move(name), std::move(location)});
}

std::vector<Plugin> ReadPlugins(YamlMap& top, std::string_view sma_plugins, Problems& problems) {
  std::vector<Plugin> plugins;
  std::string location = problems.Location(top.LineOf("plugins"));
  for (std::string& name : top.StringList("plugins")) {
    if (name.empty()) problems.Add(top.LineOf("plugins"), "a plugin needs a name");
    AddPlugin(plugins, std::move(name), location);
  }
  while (!sma_plugins.empty()) {
    std::string_view name = sma_plugins.substr(0, sma_plugins.find(':'));
    sma_plugins.remove_prefix(std::min(name.size() + 1, sma_plugins.size()));
    if (!name.empty()) AddPlugin(plugins, std::string(name), "SMA_PLUGINS");
  }
  return plugins;
}

Crypto ReadCrypto(YamlMap& top, Problems& problems) {
  Crypto crypto;
  if (!top.Has("crypto")) {
    top.Any("crypto");
    return crypto;
  }
  YamlMap map(top.Any("crypto"), problems);
  crypto.location = problems.Location(map.line());
  crypto.engine = map.String("name", "");
  if (crypto.engine.empty()) problems.Add(map.line(), "'crypto' needs a 'name'");
  crypto.params = ParamsToJson(map.Any("params"), problems);
  map.RefuseUnknownKeys();
  return crypto;
}

/// A key without a value is an error here, since it would silently leave keys unsealed.
SealingKey ReadSealingKey(YamlMap& top, Problems& problems) {
  using Source = SealingKey::Source;
  SealingKey key;
  if (!top.Contains("sealing_key")) {
    top.Any("sealing_key");
    return key;
  }
  YamlMap map(top.Any("sealing_key"), problems);
  int sources = 0;
  for (auto [name, source] :
       {std::pair("file", Source::kFile), std::pair("credential", Source::kCredential),
        std::pair("environment", Source::kEnvironment)}) {
    std::string value = map.String(name, "");
    if (value.empty()) continue;
    key = {source, std::move(value)};
    ++sources;
  }
  map.RefuseUnknownKeys();
  if (sources != 1) {
    problems.Add(map.line(), "'sealing_key' needs one of 'file', 'credential' and 'environment'");
  }
  if (key.source == Source::kCredential && key.name.find('/') != std::string::npos) {
    problems.Add(map.LineOf("credential"), "'sealing_key.credential' must be a name, not a path");
  }
  return key;
}

Embedded ReadEmbedded(YamlMap& top, Problems& problems) {
  YamlMap map(top.Any("embedded"), problems);
  Embedded embedded;
  embedded.enabled = map.Bool("enabled", embedded.enabled);
  embedded.binary = map.String("binary", "");
  embedded.arguments = map.StringList("arguments");
  embedded.log_file = map.String("log_file", "");
  embedded.stop_with_agent = map.Bool("stop_with_agent", embedded.stop_with_agent);
  map.RefuseUnknownKeys();
  return embedded;
}

/// Keys without a value are errors here, since they would silently weaken the intended protection.
std::optional<Tls> ReadTls(YamlMap& top, Problems& problems) {
  if (!top.Contains("tls")) {
    top.Any("tls");
    return std::nullopt;
  }
  YamlMap map(top.Any("tls"), problems);
  Tls tls{map.String("cert", ""), map.String("key", ""), map.String("client_ca", "")};
  if (tls.cert.empty() || tls.key.empty()) {
    problems.Add(map.line(), "'tls' needs the files 'cert' and 'key'");
  }
  if (map.Contains("client_ca") && tls.client_ca.empty()) {
    problems.Add(map.LineOf("client_ca"), "'tls.client_ca' needs a file");
  }
  map.RefuseUnknownKeys();
  return tls;
}

std::optional<Metrics> ReadMetrics(YamlMap& top, Problems& problems) {
  YamlMap map(top.Any("metrics"), problems);
  Metrics metrics{map.String("address", "")};
  map.RefuseUnknownKeys();
  if (metrics.address.empty()) return std::nullopt;
  std::optional<HostPort> parsed = ParseHostPort(metrics.address);
  if (!parsed) {
    problems.Add(map.LineOf("address"),
                 fmt::format("'metrics.address' must be HOST:PORT, not '{}'", metrics.address));
    return std::nullopt;
  }
  metrics.address = parsed->ToString();
  return metrics;
}

void ReadTimes(YamlMap& top, Config& config) {
  config.discovery_timeout =
      top.Seconds("discovery_timeout", config.discovery_timeout, milliseconds(1), kLongest);
  config.volume_cleanup_period =
      top.Seconds("volume_cleanup_period", config.volume_cleanup_period, milliseconds(0), kLongest);
  config.drift_period = top.Seconds("drift_period", config.drift_period, milliseconds(0), kLongest);
  config.stop_timeout = top.Seconds("stop_timeout", config.stop_timeout, milliseconds(0), kLongest);
}

Config ReadAll(YamlMap& top, const Flags& flags, std::string_view sma_plugins, DeviceTypes types,
               Problems& problems) {
  Config config;
  config.address = top.String("address", config.address);
  config.port = static_cast<uint16_t>(top.Integer("port", config.port, 0, UINT16_MAX));
  config.socket = top.String("socket", config.socket);
  config.state_dir = top.String("state_dir", "");
  config.plugins = ReadPlugins(top, sma_plugins, problems);
  config.plugin_dir = top.String("plugin_dir", "");
  config.devices = ReadDevices(top, types, !config.plugins.empty(), problems);
  config.crypto = ReadCrypto(top, problems);
  config.sealing_key = ReadSealingKey(top, problems);
  config.embedded = ReadEmbedded(top, problems);
  config.tls = ReadTls(top, problems);
  config.metrics = ReadMetrics(top, problems);
  config.attached_volumes_on_delete = static_cast<VolumesOnDelete>(
      top.OneOf("attached_volumes_on_delete", 0, {"detach", "refuse"}));
  config.gone_volumes =
      static_cast<GoneVolumes>(top.OneOf("gone_volumes", 0, {"report", "detach"}));
  config.drift = static_cast<Drift>(top.OneOf("drift", 0, {"repair", "report"}));
  ReadTimes(top, config);
  config.max_calls = static_cast<uint32_t>(top.Integer("max_calls", config.max_calls, 1, 1024));
  top.RefuseUnknownKeys();

  if (flags.address) config.address = *flags.address;
  if (flags.port) config.port = *flags.port;
  if (flags.socket) config.socket = *flags.socket;
  if (flags.state_dir) config.state_dir = *flags.state_dir;
  config.embedded.enabled |= flags.embedded;
  config.embedded.stop_with_agent |= flags.embedded_stop;

  int address_line = flags.address ? 0 : top.LineOf("address");
  config.address = NormalizeListenAddress(std::move(config.address), address_line, problems);
  CheckSocketPath("socket", config.socket, flags.socket ? 0 : top.LineOf("socket"), problems);
  return config;
}

}  // namespace

absl::StatusOr<Config> Parse(std::string_view text, std::string_view file, const Flags& flags,
                             std::string_view sma_plugins, DeviceTypes types) {
  Problems problems{std::string(file)};
  Value root{.name = "", .line = 1, .node = ReadDocument(text, problems)};
  YamlMap top(root, problems);
  Config config = ReadAll(top, flags, sma_plugins, types, problems);
  absl::Status status = problems.ToStatus();
  if (!status.ok()) return status;
  return config;
}

}  // namespace sma::config
