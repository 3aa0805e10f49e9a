// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sma::base {

/// A universally unique identifier, 16 bytes in network order (RFC 9562 §4). A value type.
class Uuid {
 public:
  static constexpr size_t kSize = 16;

  /// The nil UUID: all bytes zero (RFC 9562 §5.9).
  constexpr Uuid() = default;
  constexpr explicit Uuid(const std::array<uint8_t, kSize>& bytes) : bytes_(bytes) {}

  /// Converts exactly 16 raw bytes; returns nullopt for any other length.
  static std::optional<Uuid> FromBytes(std::string_view bytes);

  /// Parses the 36-character text form with hyphens, in either case; returns nullopt for anything
  /// else.
  static std::optional<Uuid> Parse(std::string_view text);

  /// Parses 32 hexadecimal digits without hyphens (the text form of an NVMe NGUID); returns nullopt
  /// for anything else.
  static std::optional<Uuid> ParseHex(std::string_view text);

  /// Returns a random UUID, version 4 (RFC 9562 §5.4), from the kernel's random generator.
  /// Thread-safe.
  static Uuid Random();

  /// Returns a name-based UUID, version 5 (RFC 9562 §5.5): SHA-1 of `name_space` and `name`.
  static Uuid FromName(const Uuid& name_space, std::string_view name);

  /// Returns the text form with hyphens, in lower case, 36 characters.
  std::string ToString() const;

  /// Returns 32 lower-case hexadecimal digits without hyphens, the form of an NGUID in SPDK's
  /// JSON-RPC.
  std::string ToHex() const;

  /// Returns the 16 raw bytes.
  std::string ToBytes() const;

  bool is_nil() const { return *this == Uuid(); }
  const std::array<uint8_t, kSize>& bytes() const { return bytes_; }

  friend auto operator<=>(const Uuid&, const Uuid&) = default;  // NOLINT(modernize-use-nullptr)

  template <typename H>
  friend H AbslHashValue(H h, const Uuid& uuid) {
    return H::combine(std::move(h), uuid.bytes_);
  }

 private:
  std::array<uint8_t, kSize> bytes_{};
};

}  // namespace sma::base

template <>
struct std::hash<sma::base::Uuid> {
  size_t operator()(const sma::base::Uuid& uuid) const noexcept;
};
