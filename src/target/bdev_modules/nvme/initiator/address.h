#pragma once

#include <sys/socket.h>

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/ip_address.h"

namespace sma::target::initiator {

/// Where an NVMe/TCP controller listens, or where a connection comes from. Compared by value.
struct Address {
  base::IpAddress ip;
  uint16_t port;

  /// From the numeric text forms of TRADDR and TRSVCID; host names are not resolved. nullopt for
  /// anything else.
  static std::optional<Address> Parse(std::string_view traddr, std::string_view trsvcid);

  /// "192.0.2.1:4420", "[2001:db8::1]:4420".
  std::string ToString() const;

  /// Writes the form that connect(2) and bind(2) take; its size, 0 when the scope names no
  /// interface of this machine.
  socklen_t ToSockaddr(sockaddr_storage& storage) const;

  // NOLINTNEXTLINE(modernize-use-nullptr): of the operator that the compiler makes
  friend auto operator<=>(const Address&, const Address&) = default;
};

}  // namespace sma::target::initiator
