// SPDX-License-Identifier: Apache-2.0

#include "devices/pci_common/pci_params.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/config/host_port.h"

namespace sma::pci_common {
namespace {

using config::YamlMap;

constexpr uint32_t kDefaultSlotCount = 32;
constexpr uint32_t kMaxSlotCount = 65'536;
constexpr std::string_view kLoopback = "127.0.0.1";

/// Reads `qmp` of a bus, which is an address of either kind (TCP or Unix socket).
std::optional<qmp::Address> ReadBusQmp(YamlMap& map) {
  const std::string text = map.String("qmp", "");
  if (text.empty()) return std::nullopt;
  std::optional<qmp::Address> address = ParseQmpAddress(text);
  if (!address) {
    map.AddProblem("qmp", fmt::format("'{}' is neither HOST:PORT nor unix:PATH", text));
  }
  return address;
}

/// Reads `qmp_addr` and `qmp_port` of a device type. A port is not allowed with the path of a Unix
/// socket.
std::optional<qmp::Address> ReadQmp(YamlMap& map) {
  const std::string_view addr_key = map.Alias("qmp_addr", "address");
  const std::string_view port_key = map.Alias("qmp_port", "port");
  const bool has_addr = map.Has(addr_key);
  const bool has_port = map.Has(port_key);
  const std::string addr = map.String(addr_key, kLoopback);
  const auto port = static_cast<uint16_t>(map.Integer(port_key, 0, 1, UINT16_MAX));
  if (!has_addr && !has_port) return std::nullopt;

  if (std::optional<qmp::Address> path = ParseQmpAddress(addr); path && !path->path.empty()) {
    if (has_port)
      map.AddProblem(port_key, fmt::format("'{}' cannot be combined with a Unix socket", port_key));
    return path;
  }
  const std::string host(config::StripBrackets(addr));
  if (!config::IsHost(host)) {
    map.AddProblem(addr_key, fmt::format("'{}' is neither an address nor unix:PATH", addr));
  } else if (!has_port) {
    map.AddProblem(addr_key, "'qmp_port' is missing");
  }
  return qmp::Address{.host = host, .port = port, .path = ""};
}

Bus ReadBus(const config::Value& value, config::Problems& problems) {
  YamlMap map(value, problems);
  Bus bus;
  bus.name = map.String("name", "");
  if (map.is_map() && bus.name.empty()) problems.Add(map.line(), "a bus needs a 'name'");
  bus.slot_count = static_cast<uint32_t>(map.Integer("count", kDefaultSlotCount, 0, kMaxSlotCount));
  bus.qmp = ReadBusQmp(map);
  map.RefuseUnknownKeys();
  return bus;
}

/// `qmp` is the address of the device type, for buses without their own.
std::vector<Bus> ReadBuses(YamlMap& map, const std::optional<qmp::Address>& qmp) {
  std::vector<Bus> buses;
  if (map.Alias("buses", "bus") == "bus") {
    Bus bus;
    bus.name = map.String("bus", "");
    if (bus.name.empty()) map.AddProblem("bus", "a bus needs a name");
    buses.push_back(std::move(bus));
    return buses;
  }
  for (const config::Value& value : map.List("buses")) {
    Bus bus = ReadBus(value, map.problems());
    // Different VMs may have buses with the same name.
    const bool again = std::any_of(buses.begin(), buses.end(), [&](const Bus& other) {
      return !bus.name.empty() && other.name == bus.name &&
             (other.qmp ? other.qmp : qmp) == (bus.qmp ? bus.qmp : qmp);
    });
    if (again) {
      map.problems().Add(value.line, fmt::format("bus '{}' is specified twice", bus.name));
    }
    buses.push_back(std::move(bus));
  }
  return buses;
}

std::shared_ptr<qmp::Client> VmAt(qmp::VmClients& vms, const std::optional<qmp::Address>& address) {
  return address ? vms.At(*address) : nullptr;
}

}  // namespace

std::optional<qmp::Address> ParseQmpAddress(std::string_view text) {
  constexpr std::string_view kUnix = "unix:";
  const bool is_unix = text.starts_with(kUnix);
  const std::string_view path = is_unix ? text.substr(kUnix.size()) : text;
  if (path.starts_with('/')) {
    return qmp::Address{.host = "", .port = 0, .path = std::string(path)};
  }
  if (is_unix) return std::nullopt;
  std::optional<config::HostPort> tcp = config::ParseHostPort(text);
  if (!tcp || tcp->port == 0) return std::nullopt;
  return qmp::Address{.host = tcp->host, .port = tcp->port, .path = ""};
}

PciParams ReadPciParams(YamlMap& map) {
  PciParams params;
  params.qmp = ReadQmp(map);
  params.buses = ReadBuses(map, params.qmp);
  const std::string_view path_key = map.Alias("sock_path", "root_path");
  std::string path = map.String(path_key, params.sock_path);
  if (!path.starts_with('/')) {
    map.AddProblem(path_key, fmt::format("'{}' must be an absolute path", path_key));
  }
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  params.sock_path = std::move(path);
  return params;
}

qmp::Buses MakeBuses(const PciParams& params, qmp::VmClients& vms) {
  const std::shared_ptr<qmp::Client> vm = VmAt(vms, params.qmp);
  std::vector<qmp::Bus> buses;
  for (const Bus& bus : params.buses) {
    buses.push_back(
        {.name = bus.name, .slot_count = bus.slot_count, .vm = bus.qmp ? VmAt(vms, bus.qmp) : vm});
  }
  return qmp::Buses(std::move(buses), vm != nullptr, &vms);
}

}  // namespace sma::pci_common
