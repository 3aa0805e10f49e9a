// SPDX-License-Identifier: Apache-2.0

#include "agent/config/host_port.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include "agent/config/number.h"

namespace sma::config {

std::string HostPort::ToString() const {
  bool is_ipv6 = host.find(':') != std::string::npos;
  return is_ipv6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

std::string_view StripBrackets(std::string_view host) {
  bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  return bracketed ? host.substr(1, host.size() - 2) : host;
}

bool IsHost(std::string_view host) {
  if (host.empty() || host.size() > 255) return false;
  for (char c : host) {
    bool printable = c > ' ' && c < 0x7f;
    if (!printable || c == '/' || c == '[' || c == ']') return false;
  }
  if (host.find(':') == std::string_view::npos) return true;
  in6_addr parsed;
  std::string address(host.substr(0, host.find('%')));
  return inet_pton(AF_INET6, address.c_str(), &parsed) == 1;
}

std::optional<HostPort> ParseHostPort(std::string_view text) {
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  bool bracketed = StripBrackets(host) != host;
  host = StripBrackets(host);
  if (!IsHost(host) || bracketed != (host.find(':') != std::string_view::npos)) return std::nullopt;

  std::string_view digits = text.substr(colon + 1);
  std::optional<uint16_t> port = ParseNumber<uint16_t>(digits);
  if (!port || digits.size() > 5) return std::nullopt;
  return HostPort{std::string(host), *port};
}

}  // namespace sma::config
