#include "agent/config/devices.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "agent/config/host_port.h"
#include "agent/config/yaml_document.h"
#include "agent/config/yaml_json.h"

namespace sma::config {
namespace {

constexpr uint32_t kDefaultBusCount = 32;
constexpr uint32_t kMaxBusCount = 65'536;
constexpr std::string_view kLoopback = "127.0.0.1";

struct BuiltIn {
  std::string_view name;
  Device::Type type;
};
constexpr BuiltIn kBuiltIns[] = {
    {"nvmf_tcp", Device::Type::kNvmfTcp},
    {"vfiouser", Device::Type::kVfioUser},
    {"vhost_blk", Device::Type::kVhostBlk},
    {"vhost-blk", Device::Type::kVhostBlk},
};

std::optional<QmpAddress> ParseQmp(std::string_view text) {
  constexpr std::string_view kUnix = "unix:";
  bool is_unix = text.starts_with(kUnix);
  std::string_view path = is_unix ? text.substr(kUnix.size()) : text;
  if (path.starts_with('/')) return QmpAddress{.host = "", .port = 0, .path = std::string(path)};
  if (is_unix) return std::nullopt;
  std::optional<HostPort> tcp = ParseHostPort(text);
  if (!tcp || tcp->port == 0) return std::nullopt;
  return QmpAddress{.host = tcp->host, .port = tcp->port, .path = ""};
}

/// `qmp` of a bus: one text for either kind of address.
std::optional<QmpAddress> ReadBusQmp(YamlMap& map, Problems& problems) {
  std::string text = map.String("qmp", "");
  if (text.empty()) return std::nullopt;
  std::optional<QmpAddress> address = ParseQmp(text);
  if (!address) {
    problems.Add(map.LineOf("qmp"), fmt::format("'{}' is neither HOST:PORT nor unix:PATH", text));
  }
  return address;
}

/// `qmp_addr` and `qmp_port` of a device type; an address that is a path stands alone.
std::optional<QmpAddress> ReadQmp(YamlMap& map, Problems& problems) {
  std::string_view addr_key = map.Alias("qmp_addr", "address");
  std::string_view port_key = map.Alias("qmp_port", "port");
  bool has_addr = map.Has(addr_key);
  bool has_port = map.Has(port_key);
  std::string addr = map.String(addr_key, kLoopback);
  auto port = static_cast<uint16_t>(map.Integer(port_key, 0, 1, UINT16_MAX));
  if (!has_addr && !has_port) return std::nullopt;

  if (std::optional<QmpAddress> path = ParseQmp(addr); path && !path->path.empty()) {
    if (has_port) {
      problems.Add(map.LineOf(port_key), fmt::format("'{}' beside a Unix socket", port_key));
    }
    return path;
  }
  std::string host(StripBrackets(addr));
  if (!IsHost(host)) {
    problems.Add(map.LineOf(addr_key),
                 fmt::format("'{}' is neither an address nor unix:PATH", addr));
  } else if (!has_port) {
    problems.Add(map.LineOf(addr_key), "'qmp_port' is missing");
  }
  return QmpAddress{.host = host, .port = port, .path = ""};
}

Bus ReadBus(const Value& value, Problems& problems) {
  YamlMap map(value, problems);
  Bus bus;
  bus.name = map.String("name", "");
  if (map.is_map() && bus.name.empty()) problems.Add(map.line(), "a bus needs a 'name'");
  bus.count = static_cast<uint32_t>(map.Integer("count", kDefaultBusCount, 0, kMaxBusCount));
  bus.qmp = ReadBusQmp(map, problems);
  map.RefuseOthers();
  return bus;
}

/// `qmp`: of the device type, for buses without their own.
std::vector<Bus> ReadBuses(YamlMap& map, const std::optional<QmpAddress>& qmp, Problems& problems) {
  std::vector<Bus> buses;
  if (map.Alias("buses", "bus") == "bus") {
    Bus bus;
    bus.name = map.String("bus", "");
    if (bus.name.empty()) problems.Add(map.LineOf("bus"), "a bus needs a name");
    buses.push_back(std::move(bus));
    return buses;
  }
  for (const Value& value : map.List("buses")) {
    Bus bus = ReadBus(value, problems);
    // Machines have buses of the same names.
    bool again = std::any_of(buses.begin(), buses.end(), [&](const Bus& other) {
      return !bus.name.empty() && other.name == bus.name &&
             (other.qmp ? other.qmp : qmp) == (bus.qmp ? bus.qmp : qmp);
    });
    if (again) problems.Add(value.line, fmt::format("bus '{}' is given twice", bus.name));
    buses.push_back(std::move(bus));
  }
  return buses;
}

// `interrupts`: true for MSI-X.
bool ReadIsMsix(YamlMap& map, Problems& problems) {
  const std::string interrupts = map.String("interrupts", "msi");
  if (interrupts != "msi" && interrupts != "msix") {
    problems.Add(map.LineOf("interrupts"),
                 fmt::format("'interrupts': '{}' is neither 'msi' nor 'msix'", interrupts));
  }
  return interrupts == "msix";
}

PciParams ReadPciParams(const Value& value, Device::Type type, Problems& problems) {
  YamlMap map(value, problems);
  PciParams params;
  params.qmp = ReadQmp(map, problems);
  params.buses = ReadBuses(map, params.qmp, problems);
  std::string_view path_key = map.Alias("sock_path", "root_path");
  std::string path = map.String(path_key, params.sock_path);
  if (!path.starts_with('/')) {
    problems.Add(map.LineOf(path_key), fmt::format("'{}' must be an absolute path", path_key));
  }
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  params.sock_path = std::move(path);
  if (type == Device::Type::kVhostBlk) params.packed_ring = map.Bool("packed_ring", false);
  if (type == Device::Type::kVfioUser) params.msix = ReadIsMsix(map, problems);
  map.RefuseOthers();
  return params;
}

Device ReadDevice(const Value& value, bool has_plugins, Problems& problems) {
  YamlMap map(value, problems);
  Device device;
  device.name = map.String("name", "");
  int line = map.LineOf("name");
  device.location = problems.Location(line);
  Value params = map.Any("params");

  auto built_in = std::find_if(std::begin(kBuiltIns), std::end(kBuiltIns),
                               [&](const BuiltIn& b) { return b.name == device.name; });
  if (built_in != std::end(kBuiltIns)) {
    device.type = built_in->type;
    std::replace(device.name.begin(), device.name.end(), '-', '_');
  }
  switch (device.type) {
    case Device::Type::kNvmfTcp:
      YamlMap(params, problems).RefuseOthers();
      break;
    case Device::Type::kVfioUser:
    case Device::Type::kVhostBlk:
      device.pci = ReadPciParams(params, device.type, problems);
      if (problems.ToStatus().ok()) device.params = ParamsToJson(params, problems);
      break;
    case Device::Type::kPlugin:
      if (!map.is_map()) break;
      if (device.name.empty()) {
        problems.Add(line, "a device needs a 'name'");
      } else if (!has_plugins) {
        problems.Add(line, fmt::format("unknown device '{}' (known: nvmf_tcp, vfiouser, vhost_blk)",
                                       device.name));
      }
      device.params = ParamsToJson(params, problems);
      break;
  }
  map.RefuseOthers();
  return device;
}

}  // namespace

absl::StatusOr<PciParams> ParsePciParams(const nlohmann::json& params, Device::Type type) {
  Problems problems("params");
  // JSON is YAML, too.
  Value root{.name = "", .line = 1, .node = ReadDocument(params.dump(), problems)};
  PciParams pci = ReadPciParams(root, type, problems);
  absl::Status status = problems.ToStatus();
  if (!status.ok()) return status;
  return pci;
}

std::vector<Device> ReadDevices(YamlMap& top, bool has_plugins, Problems& problems) {
  std::vector<Device> devices;
  for (const Value& value : top.List("devices")) {
    Device device = ReadDevice(value, has_plugins, problems);
    auto again = std::find_if(devices.begin(), devices.end(),
                              [&](const Device& other) { return other.name == device.name; });
    if (again != devices.end() && !device.name.empty()) {
      problems.Add(value.line,
                   fmt::format("device '{}' is already at {}: one of a protocol is possible",
                               device.name, again->location));
    }
    devices.push_back(std::move(device));
  }
  return devices;
}

}  // namespace sma::config
