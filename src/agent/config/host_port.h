// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sma::config {

/// A TCP address as users write it.
struct HostPort {
  std::string host;  // an IPv6 address without brackets
  uint16_t port = 0;

  /// Returns "HOST:PORT", with an IPv6 address in brackets.
  std::string ToString() const;
};

/// Parses "HOST:PORT", where an IPv6 address must be in brackets. Returns nullopt for anything
/// else.
std::optional<HostPort> ParseHostPort(std::string_view text);

/// Removes the brackets around an IPv6 address, if any.
std::string_view StripBrackets(std::string_view host);

/// Returns true if `host` has the form of an address or a host name: not empty, without white
/// space, "/" or control characters, and with ":" only in an IPv6 address (which may have a zone,
/// such as "%eth0"). Brackets are not accepted.
bool IsHost(std::string_view host);

}  // namespace sma::config
