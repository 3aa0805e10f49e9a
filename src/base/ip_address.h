#pragma once

#include <netinet/in.h>

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sma::base {

/// A literal IPv4 or IPv6 address, compared by value: "::1" equals "0:0::1". A value type.
class IpAddress {
 public:
  /// From the text forms that inet_pton(3) takes, an IPv6 one with or without a scope
  /// ("fe80::1%eth0"); nullopt for anything else, host names too.
  static std::optional<IpAddress> Parse(std::string_view text);

  bool is_v6() const { return is_v6_; }

  /// The canonical text form (RFC 5952 for IPv6), with the scope if there is one.
  std::string ToString() const;

  // NOLINTNEXTLINE(modernize-use-nullptr): of the operator that the compiler makes
  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  IpAddress() = default;
  bool is_v6_ = false;
  std::array<uint8_t, sizeof(in6_addr)> bytes_{};  // of IPv4 only the first four
  std::string scope_;
};

}  // namespace sma::base
