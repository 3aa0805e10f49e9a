// SPDX-License-Identifier: Apache-2.0

#include "base/uuid.h"

#include <openssl/evp.h>
#include <sys/random.h>

#include <cstring>

#include "base/hex.h"

namespace sma::base {
namespace {

constexpr size_t kTextSize = 36;
constexpr bool IsHyphenAt(size_t i) { return i == 8 || i == 13 || i == 18 || i == 23; }

void SetVersion(std::array<uint8_t, Uuid::kSize>& bytes, uint8_t version) {
  bytes[6] = static_cast<uint8_t>((bytes[6] & 0x0f) | (version << 4));
  bytes[8] = static_cast<uint8_t>((bytes[8] & 0x3f) | 0x80);
}

}  // namespace

std::optional<Uuid> Uuid::FromBytes(std::string_view bytes) {
  if (bytes.size() != kSize) return std::nullopt;
  Uuid uuid;
  std::memcpy(uuid.bytes_.data(), bytes.data(), kSize);
  return uuid;
}

std::optional<Uuid> Uuid::ParseHex(std::string_view text) {
  if (text.size() != 2 * kSize) return std::nullopt;
  std::optional<std::string> bytes = HexDecode(text);
  return bytes ? FromBytes(*bytes) : std::nullopt;
}

std::optional<Uuid> Uuid::Parse(std::string_view text) {
  if (text.size() != kTextSize) return std::nullopt;
  std::string digits;
  digits.reserve(2 * kSize);
  for (size_t i = 0; i < text.size(); ++i) {
    if (IsHyphenAt(i)) {
      if (text[i] != '-') return std::nullopt;
    } else {
      digits.push_back(text[i]);
    }
  }
  return ParseHex(digits);
}

Uuid Uuid::Random() {
  Uuid uuid;
  size_t filled = 0;
  while (filled < kSize) {
    ssize_t n = ::getrandom(uuid.bytes_.data() + filled, kSize - filled, 0);
    if (n > 0) filled += static_cast<size_t>(n);
  }
  SetVersion(uuid.bytes_, 4);
  return uuid;
}

Uuid Uuid::FromName(const Uuid& name_space, std::string_view name) {
  std::string input = name_space.ToBytes();
  input.append(name);
  std::array<uint8_t, EVP_MAX_MD_SIZE> digest{};
  unsigned int digest_size = 0;
  EVP_Digest(input.data(), input.size(), digest.data(), &digest_size, EVP_sha1(), nullptr);
  Uuid uuid;
  std::memcpy(uuid.bytes_.data(), digest.data(), kSize);
  SetVersion(uuid.bytes_, 5);
  return uuid;
}

std::string Uuid::ToHex() const {
  return HexEncode({reinterpret_cast<const char*>(bytes_.data()), kSize});
}

std::string Uuid::ToString() const {
  std::string hex = ToHex();
  std::string text;
  text.reserve(kTextSize);
  for (char c : hex) {
    if (IsHyphenAt(text.size())) text.push_back('-');
    text.push_back(c);
  }
  return text;
}

std::string Uuid::ToBytes() const {
  return std::string(reinterpret_cast<const char*>(bytes_.data()), kSize);
}

}  // namespace sma::base

size_t std::hash<sma::base::Uuid>::operator()(const sma::base::Uuid& uuid) const noexcept {
  return std::hash<std::string_view>()(
      {reinterpret_cast<const char*>(uuid.bytes().data()), sma::base::Uuid::kSize});
}
