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

  /// From exactly 16 raw bytes; nullopt for any other length.
  static std::optional<Uuid> FromBytes(std::string_view bytes);

  /// From the 36-character text form with hyphens, hex digits in either case; nullopt for anything
  /// else.
  static std::optional<Uuid> Parse(std::string_view text);

  /// From 32 hex digits without hyphens (the text form of an NVMe NGUID); nullopt for anything
  /// else.
  static std::optional<Uuid> ParseHex(std::string_view text);

  /// A random UUID, version 4 (RFC 9562 §5.4), from the kernel's generator. Thread-safe.
  static Uuid Random();

  /// A name-based UUID, version 5 (RFC 9562 §5.5): SHA-1 of `name_space` and `name`.
  static Uuid FromName(const Uuid& name_space, std::string_view name);

  /// The text form with hyphens, lower case, 36 characters.
  std::string ToString() const;

  /// 32 lower-case hex digits without hyphens: an NGUID as SPDK's JSON-RPC takes it.
  std::string ToHex() const;

  /// The 16 raw bytes as a string.
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
