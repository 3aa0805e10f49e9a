// SPDX-License-Identifier: Apache-2.0

#include "cli/address.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "absl/strings/str_replace.h"
#include "base/ip_address.h"

namespace sma::cli {
namespace {

constexpr std::string_view kDefaultPort = "8080";

struct HostPort {
  std::string host;                   // an IPv6 address without brackets
  std::string port;                   // empty if there is none
  std::optional<base::IpAddress> ip;  // `host` as an address; nullopt if it is a name
};

bool IsPort(std::string_view text) {
  unsigned port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 1 && port <= 65535;
}

bool IsHostName(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '-' || c == '_';
  });
}

// Parses HOST, HOST:PORT, [IPV6] or [IPV6]:PORT.
std::optional<HostPort> SplitHostPort(std::string_view text) {
  HostPort parts;
  std::string_view rest;
  const bool brackets = text.starts_with('[');
  if (brackets) {
    const size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) return std::nullopt;
    parts.host = text.substr(1, bracket - 1);
    rest = text.substr(bracket + 1);
    if (!rest.empty() && rest[0] != ':') return std::nullopt;
  } else {
    const size_t colon = std::min(text.find(':'), text.size());
    parts.host = text.substr(0, colon);
    rest = text.substr(colon);
  }
  if (!rest.empty()) {
    parts.port = rest.substr(1);
    if (!IsPort(parts.port)) return std::nullopt;
  }
  parts.ip = base::IpAddress::Parse(parts.host);
  if (brackets && !(parts.ip && parts.ip->is_v6())) return std::nullopt;
  if (!brackets && (parts.host.empty() || !IsHostName(parts.host))) return std::nullopt;
  return parts;
}

}  // namespace

absl::StatusOr<std::string> ParseAgentAddress(std::string_view address) {
  constexpr std::string_view kUnix = "unix:";
  if (address.starts_with(kUnix)) {
    if (address.size() > kUnix.size()) return std::string(address);
  } else if (std::optional<HostPort> parts = SplitHostPort(address)) {
    const std::string_view port = parts->port.empty() ? kDefaultPort : parts->port;
    if (!parts->ip) return fmt::format("dns:///{}:{}", parts->host, port);
    if (!parts->ip->is_v6()) return fmt::format("ipv4:{}:{}", parts->host, port);
    // gRPC expects a URI, in which the percent sign of the zone must be escaped (RFC 6874 §2).
    return fmt::format("ipv6:[{}]:{}", absl::StrReplaceAll(parts->host, {{"%", "%25"}}), port);
  }
  return absl::InvalidArgumentError(
      fmt::format("address '{}' is not HOST:PORT, [IPV6]:PORT or unix:PATH", address));
}

std::optional<std::pair<std::string, std::string>> AgentHostAndPort(std::string_view address) {
  if (address.starts_with("unix:")) return std::nullopt;
  std::optional<HostPort> parts = SplitHostPort(address);
  if (!parts) return std::nullopt;
  return std::pair(parts->host, parts->port.empty() ? std::string(kDefaultPort) : parts->port);
}

absl::StatusOr<TransportAddress> ParseTransportAddress(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon != std::string_view::npos && colon > 0) {
    std::optional<HostPort> parts = SplitHostPort(text.substr(colon + 1));
    if (parts && !parts->port.empty()) {
      return TransportAddress{std::string(text.substr(0, colon)), parts->host, parts->port};
    }
  }
  return absl::InvalidArgumentError(fmt::format(
      "'{}' is not TRTYPE:ADDRESS:PORT (tcp:192.0.2.1:4420, tcp:[2001:db8::1]:4420)", text));
}

}  // namespace sma::cli
