// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <netinet/in.h>

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sma::base {

/// A literal IPv4 or IPv6 address. A value type: addresses are compared by value, so "::1" equals
/// "0:0::1".
class IpAddress {
 public:
  /// Parses the text forms of inet_pton(3), IPv6 with or without a zone ("fe80::1%eth0"); nullopt
  /// for anything else, including host names.
  static std::optional<IpAddress> Parse(std::string_view text);

  bool is_v6() const { return is_v6_; }

  /// Returns the canonical text form (RFC 5952 for IPv6), with the zone if there is one.
  std::string ToString() const;

  // NOLINTNEXTLINE(modernize-use-nullptr): of the operator that the compiler makes
  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  IpAddress() = default;
  bool is_v6_ = false;
  std::array<uint8_t, sizeof(in6_addr)> bytes_{};  // for IPv4 only the first four bytes
  std::string scope_;
};

}  // namespace sma::base
