#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace sma::config {

using std::chrono::milliseconds;

/// Where a QEMU listens for QMP: a TCP address or a Unix socket.
struct QmpAddress {
  std::string host;  // empty for a Unix socket
  uint16_t port = 0;
  std::string path;  // of the Unix socket; empty for TCP

  friend bool operator==(const QmpAddress&, const QmpAddress&) = default;
};

/// A PCI bridge of a virtual machine that devices are plugged into.
struct Bus {
  std::string name;
  uint32_t count = 32;            // of slots
  std::optional<QmpAddress> qmp;  // of its machine; else that of the device type
};

/// Parameters of the device types that are PCI functions, `vfiouser` and `vhost_blk`.
struct PciParams {
  std::vector<Bus> buses;              // names are unique in each machine and not empty
  std::optional<QmpAddress> qmp;       // without it nothing is plugged, only sockets are made
  std::string sock_path = "/var/tmp";  // without a trailing slash
  bool packed_ring = false;            // kVhostBlk: machines may use packed virtqueues
  bool msix = false;                   // kVfioUser: controllers have MSI-X, not MSI
};

/// One entry of `devices`.
struct Device {
  enum class Type { kNvmfTcp, kVfioUser, kVhostBlk, kPlugin };

  Type type = Type::kPlugin;
  std::string name;  // with an underscore for the built-in types; as written for a plugin's
  PciParams pci;     // kVfioUser, kVhostBlk
  nlohmann::json params = nlohmann::json::object();  // as written; not of kNvmfTcp
  std::string location;                              // "FILE:LINE", for messages about this entry
};

/// One entry of `plugins`.
struct Plugin {
  std::string name;      // a Python module, or a shared library's path or name
  std::string location;  // "FILE:LINE" or "SMA_PLUGINS"
};

/// `crypto`: the engine for encrypted volumes.
struct Crypto {
  std::string engine = "nop";
  nlohmann::json params = nlohmann::json::object();
  std::string location;  // "FILE:LINE"; empty when not in the file
};

/// `sealing_key`: where the key is that seals volumes' keys and secrets in the record.
struct SealingKey {
  enum class Source { kNone, kFile, kCredential, kEnvironment };

  Source source = Source::kNone;
  std::string name;  // of the file, the credential, the variable
};

/// `embedded`: the storage target that the agent starts itself.
struct Embedded {
  bool enabled = false;
  std::string binary;                  // empty: `sma-target` beside the agent's own file
  std::vector<std::string> arguments;  // after the agent's own
  std::string log_file;                // empty: the agent's standard error
  bool stop_with_agent = false;        // else it goes on when the agent stops
};

/// `tls`: paths of PEM files.
struct Tls {
  std::string cert;
  std::string key;
  std::string client_ca;  // not empty: clients must show a certificate that it signed
};

/// `metrics`: where Prometheus reads.
struct Metrics {
  std::string address;  // HOST:PORT, an IPv6 address in brackets
};

/// What DeleteDevice does to volumes that are still attached.
enum class VolumesOnDelete { kDetach, kRefuse };

/// What happens to a remote volume that is gone for longer than volume_cleanup_period.
enum class GoneVolumes { kReport, kDetach };

/// What happens when an object that the agent made is gone from the target.
enum class Drift { kRepair, kReport };

/// The whole configuration, checked. docs/configuration.md describes each key.
struct Config {
  std::string address = "localhost";  // or "unix:PATH", then `port` means nothing
  uint16_t port = 8080;               // 0: any free one
  std::string socket = "/var/tmp/spdk.sock";
  std::string state_dir;  // empty: DefaultStateDir()
  std::vector<Device> devices;
  std::vector<Plugin> plugins;  // of the file, then of SMA_PLUGINS; each once
  std::string plugin_dir;       // of plugins that are shared libraries; empty: the agent's own
  Crypto crypto;
  SealingKey sealing_key;
  Embedded embedded;
  std::optional<Tls> tls;
  std::optional<Metrics> metrics;
  VolumesOnDelete attached_volumes_on_delete = VolumesOnDelete::kDetach;
  Drift drift = Drift::kRepair;
  milliseconds drift_period{30'000};  // 0: never looked for
  milliseconds discovery_timeout{10'000};
  milliseconds volume_cleanup_period{60'000};  // 0: never
  GoneVolumes gone_volumes = GoneVolumes::kReport;
  milliseconds stop_timeout{10'000};  // calls still going on after it are cancelled
  uint32_t max_calls = 128;           // worked on at once; more wait
};

}  // namespace sma::config
