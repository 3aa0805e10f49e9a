#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sma::config {

/// A TCP address as a user writes it.
struct HostPort {
  std::string host;  // an IPv6 address without brackets
  uint16_t port = 0;

  /// "HOST:PORT", an IPv6 address in brackets.
  std::string ToString() const;
};

/// From "HOST:PORT", where an IPv6 address stands in brackets; nullopt for anything else.
std::optional<HostPort> ParseHostPort(std::string_view text);

/// Without the brackets that an IPv6 address may stand in.
std::string_view StripBrackets(std::string_view host);

/// Whether `host` can be an address or a name: not empty, without white space, "/" or control
/// characters, with ":" only where it is an IPv6 address (a zone, "%eth0" say, included). Not in
/// brackets.
bool IsHost(std::string_view host);

}  // namespace sma::config
