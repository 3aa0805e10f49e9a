// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/crypto/crypto_key.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/hex.h"

namespace sma::storage_target::bdev_crypto {
namespace {

constexpr std::array kCipherNames = {"AES_CBC", "AES_XTS"};
constexpr std::array kTweakModeNames = {"SIMPLE_LBA", "JOIN_NEG_LBA_WITH_LBA", "INCR_512_FULL_LBA",
                                        "INCR_512_UPPER_LBA"};

template <typename Enum, size_t size>
std::optional<Enum> Parse(const std::array<const char*, size>& names, std::string_view name) {
  const auto* found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Enum>(found - names.begin());
}

/// A string that is overwritten on destruction.
struct WipedString {
  ~WipedString() { base::WipeString(text); }
  std::string text;
};

bool IsAesKeySize(size_t bytes) { return bytes == 16 || bytes == 32; }

bool IsSound(Cipher cipher, const std::string& key, const std::string& key2) {
  if (!IsAesKeySize(key.size())) return false;
  if (cipher == Cipher::kAesCbc) return key2.empty();
  return key2.size() == key.size() && !base::SecretsEqual(key, key2);
}

}  // namespace

const char* CipherName(Cipher cipher) { return kCipherNames[static_cast<size_t>(cipher)]; }

std::optional<Cipher> ParseCipher(std::string_view name) {
  return Parse<Cipher>(kCipherNames, name);
}

const char* TweakModeName(TweakMode mode) { return kTweakModeNames[static_cast<size_t>(mode)]; }

std::optional<TweakMode> ParseTweakMode(std::string_view name) {
  return Parse<TweakMode>(kTweakModeNames, name);
}

int CryptoKey::Make(const Params& params, std::shared_ptr<const CryptoKey>* out) {
  WipedString key{base::HexDecode(params.key).value_or("")};
  WipedString key2{base::HexDecode(params.key2).value_or("?")};
  if (!IsSound(params.cipher, key.text, key2.text)) return EINVAL;
  const std::string_view parts[] = {params.key, params.key2, key.text, key2.text};
  size_t size = 0;
  for (std::string_view part : parts) size += part.size();
  std::optional<base::Secret> secret = base::Secret::Make(size);
  if (!secret) return ENOMEM;
  char* to = secret->data();
  for (std::string_view part : parts) to = std::copy(part.begin(), part.end(), to);
  *out = std::make_shared<const CryptoKey>(params, *std::move(secret));
  base::ForbidCoreDumps();
  return 0;
}

CryptoKey::CryptoKey(const Params& params, base::Secret secret)
    : name_(params.name),
      cipher_(params.cipher),
      tweak_mode_(params.tweak_mode),
      key_size_(params.key.size()),
      key2_size_(params.key2.size()),
      secret_(std::move(secret)) {}

int KeyStore::Create(const CryptoKey::Params& params) {
  if (IsTaken(params.name)) return EEXIST;
  std::shared_ptr<const CryptoKey> key;
  if (int error = CryptoKey::Make(params, &key); error != 0) return error;
  keys_.push_back(std::move(key));
  return 0;
}

int KeyStore::Destroy(std::string_view name) {
  auto found = std::ranges::find_if(keys_, [name](const auto& key) { return key->name() == name; });
  if (found == keys_.end()) return ENOENT;
  destroyed_.push_back(*found);
  keys_.erase(found);
  return 0;
}

bool KeyStore::IsTaken(std::string_view name) {
  std::erase_if(destroyed_, [](const auto& key) { return key.expired(); });
  return Find(name) || std::ranges::any_of(destroyed_, [name](const auto& key) {
           return key.lock()->name() == name;
         });
}

std::shared_ptr<const CryptoKey> KeyStore::Find(std::string_view name) const {
  for (const auto& key : keys_) {
    if (key->name() == name) return key;
  }
  return nullptr;
}

}  // namespace sma::storage_target::bdev_crypto
