// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace sma::config {

using std::chrono::milliseconds;

/// An entry of `devices`.
struct Device {
  std::string name;  // of the device type; for a plugin's type as written in the file
  nlohmann::json params = nlohmann::json::object();
  std::string location;  // "FILE:LINE", for error messages
};

/// An entry of `plugins`.
struct Plugin {
  std::string name;      // a Python module, or the path or name of a shared library
  std::string location;  // "FILE:LINE" or "SMA_PLUGINS"
};

/// The crypto engine for encrypted volumes (key `crypto`).
struct Crypto {
  std::string engine = "nop";
  nlohmann::json params = nlohmann::json::object();
  std::string location;  // "FILE:LINE"; empty if the key is absent
};

/// The source of the key that seals volumes' keys and secrets in the record (key `sealing_key`).
struct SealingKey {
  enum class Source { kNone, kFile, kCredential, kEnvironment };

  Source source = Source::kNone;
  std::string name;  // of the file, credential or variable
};

/// The storage target that the agent itself starts (key `embedded`).
struct Embedded {
  bool enabled = false;
  std::string binary;  // empty: `sma-target` in the folder of the agent's executable
  std::vector<std::string> arguments;  // appended to the agent's own arguments
  std::string log_file;                // empty: the agent's standard error
  bool stop_with_agent = false;        // false: the target keeps running when the agent stops
};

/// The paths of the PEM files for TLS (key `tls`).
struct Tls {
  std::string cert;
  std::string key;
  std::string client_ca;  // not empty: clients must present a certificate signed by it
};

/// The address at which Prometheus scrapes metrics (key `metrics`).
struct Metrics {
  std::string address;  // HOST:PORT, with an IPv6 address in brackets
};

/// What DeleteDevice does with volumes that are still attached.
enum class VolumesOnDelete { kDetach, kRefuse };

/// What happens to a remote volume that has been missing for longer than volume_cleanup_period.
enum class GoneVolumes { kReport, kDetach };

/// What happens if an object created by the agent is missing on the target.
enum class Drift { kRepair, kReport };

/// The complete, checked configuration. docs/configuration.md describes each key.
struct Config {
  std::string address = "localhost";  // or "unix:PATH", then `port` has no effect
  uint16_t port = 8080;               // 0: any free port
  std::string socket = "/var/tmp/spdk.sock";
  std::string state_dir;  // empty: DefaultStateDir()
  std::vector<Device> devices;
  std::vector<Plugin> plugins;  // from the file, then from SMA_PLUGINS, without duplicates
  std::string plugin_dir;  // folder of plugins that are shared libraries; empty: the agent's own
  Crypto crypto;
  SealingKey sealing_key;
  Embedded embedded;
  std::optional<Tls> tls;
  std::optional<Metrics> metrics;
  VolumesOnDelete attached_volumes_on_delete = VolumesOnDelete::kDetach;
  Drift drift = Drift::kRepair;
  milliseconds drift_period{30'000};  // 0: no periodic comparison
  milliseconds discovery_timeout{10'000};
  milliseconds volume_cleanup_period{60'000};  // 0: disabled
  GoneVolumes gone_volumes = GoneVolumes::kReport;
  milliseconds stop_timeout{1'000};  // calls still in progress after it are cancelled
  uint32_t max_calls = 128;          // executed concurrently; further calls wait
};

}  // namespace sma::config
