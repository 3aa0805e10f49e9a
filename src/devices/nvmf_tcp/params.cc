// SPDX-License-Identifier: Apache-2.0

#include "devices/nvmf_tcp/params.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <vector>

#include "base/ip_address.h"
#include "base/nqn.h"
#include "base/strings.h"

namespace sma::nvmf_tcp {
namespace {

constexpr std::string_view kHandlePrefix = "nvmf-tcp:";

absl::Status Invalid(std::string_view field, std::string_view value, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format("nvmf_tcp.{}: '{}' {}", field, value, why));
}

// SPDK requires a name after the domain, which the standard leaves optional; the discovery
// subsystem's NQN has none.
bool IsSubsystemNqn(std::string_view nqn) {
  return base::IsValidNqn(nqn) && nqn.find(':') != std::string_view::npos;
}

std::optional<uint16_t> ParsePort(std::string_view text) {
  uint16_t port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

}  // namespace

absl::StatusOr<DeviceParameters> Canonical(const DeviceParameters& params) {
  DeviceParameters result;
  if (!IsSubsystemNqn(params.subnqn())) {
    return Invalid("subnqn", params.subnqn(), "is not the NQN of a subsystem");
  }
  result.set_subnqn(params.subnqn());

  std::optional<base::IpAddress> address = base::IpAddress::Parse(params.traddr());
  if (!address) return Invalid("traddr", params.traddr(), "is not an IP address");
  result.set_traddr(address->ToString());
  result.set_adrfam(address->is_v6() ? "ipv6" : "ipv4");
  if (!params.adrfam().empty() && !base::EqualsIgnoreCase(params.adrfam(), result.adrfam())) {
    return Invalid("adrfam", params.adrfam(), "is not the address family of traddr");
  }
  std::optional<uint16_t> port = ParsePort(params.trsvcid());
  if (!port) return Invalid("trsvcid", params.trsvcid(), "is not a TCP port");
  result.set_trsvcid(std::to_string(*port));

  result.set_allow_any_host(params.allow_any_host());
  std::vector<std::string> hosts(params.hosts().begin(), params.hosts().end());
  for (const std::string& host : hosts) {
    if (!base::IsValidNqn(host)) return Invalid("hosts", host, "is not an NQN");
  }
  std::sort(hosts.begin(), hosts.end());
  hosts.erase(std::unique(hosts.begin(), hosts.end()), hosts.end());
  result.mutable_hosts()->Add(hosts.begin(), hosts.end());
  return result;
}

std::string HandleOf(std::string_view nqn) { return std::string(kHandlePrefix).append(nqn); }

std::string NqnOf(std::string_view handle) {
  return std::string(handle.substr(kHandlePrefix.size()));
}

bool IsHandle(std::string_view handle) {
  return handle.starts_with(kHandlePrefix) && IsSubsystemNqn(handle.substr(kHandlePrefix.size()));
}

spdk::TransportAddress AddressOf(const DeviceParameters& params) {
  return {.trtype = "tcp",
          .adrfam = params.adrfam(),
          .traddr = params.traddr(),
          .trsvcid = params.trsvcid()};
}

}  // namespace sma::nvmf_tcp
