// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/socket.h>

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/ip_address.h"

namespace sma::storage_target::initiator {

/// The IP address and port of an NVMe/TCP controller or of the source of a connection. Compared by
/// value.
struct Address {
  base::IpAddress ip;
  uint16_t port;

  /// Parses the numeric text forms of TRADDR and TRSVCID; host names are not resolved. Returns
  /// nullopt for anything else.
  static std::optional<Address> Parse(std::string_view traddr, std::string_view trsvcid);

  /// "192.0.2.1:4420", "[2001:db8::1]:4420".
  std::string ToString() const;

  /// Writes the form for connect(2) and bind(2). Returns its size, or 0 if the scope is not an
  /// interface of this host.
  socklen_t ToSockaddr(sockaddr_storage& storage) const;

  // NOLINTNEXTLINE(modernize-use-nullptr): of the operator that the compiler makes
  friend auto operator<=>(const Address&, const Address&) = default;
};

}  // namespace sma::storage_target::initiator
