#include "target/bdev_modules/crypto/crypto_key.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/hex.h"

namespace sma::target::bdev_modules {
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

/// A string that is overwritten when it goes.
class WipedString {
 public:
  explicit WipedString(std::string text) : text_(std::move(text)) {}
  ~WipedString() { OPENSSL_cleanse(text_.data(), text_.size()); }
  WipedString(const WipedString&) = delete;
  WipedString& operator=(const WipedString&) = delete;

  const std::string& text() const { return text_; }
  void Append(const std::string& more) {
    // Room first, so that no copy stays behind.
    std::string joined;
    joined.reserve(text_.size() + more.size());
    joined.append(text_).append(more);
    OPENSSL_cleanse(text_.data(), text_.size());
    text_ = std::move(joined);
  }

 private:
  std::string text_;
};

bool IsAesKeySize(size_t bytes) { return bytes == 16 || bytes == 32; }

bool IsSound(Cipher cipher, const std::string& key, const std::string& key2) {
  if (!IsAesKeySize(key.size())) return false;
  if (cipher == Cipher::kAesCbc) return key2.empty();
  return key2.size() == key.size() && CRYPTO_memcmp(key.data(), key2.data(), key.size()) != 0;
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
  std::optional<std::string> key = base::HexDecode(params.key);
  std::optional<std::string> key2 = base::HexDecode(params.key2);
  WipedString material(std::move(key).value_or(""));
  WipedString second(std::move(key2).value_or("?"));
  if (!IsSound(params.cipher, material.text(), second.text())) return EINVAL;
  material.Append(second.text());

  std::optional<Secret> key_text = Secret::Copy(params.key);
  std::optional<Secret> key2_text = Secret::Copy(params.key2);
  std::optional<Secret> bytes = Secret::Copy(material.text());
  if (!key_text || !key2_text || !bytes) return ENOMEM;
  *out = std::make_shared<const CryptoKey>(params, *std::move(key_text), *std::move(key2_text),
                                           *std::move(bytes));
  ForbidCoreDumps();
  return 0;
}

CryptoKey::CryptoKey(const Params& params, Secret key, Secret key2, Secret material)
    : name_(params.name),
      cipher_(params.cipher),
      tweak_mode_(params.tweak_mode),
      key_(std::move(key)),
      key2_(std::move(key2)),
      material_(std::move(material)) {}

int KeyStore::Create(const CryptoKey::Params& params) {
  if (Find(params.name)) return EEXIST;
  std::shared_ptr<const CryptoKey> key;
  if (int error = CryptoKey::Make(params, &key); error != 0) return error;
  keys_.push_back(std::move(key));
  return 0;
}

int KeyStore::Destroy(std::string_view name) {
  return std::erase_if(keys_, [&](const auto& key) { return key->name() == name; }) != 0 ? 0
                                                                                         : ENOENT;
}

std::shared_ptr<const CryptoKey> KeyStore::Find(std::string_view name) const {
  for (const auto& key : keys_) {
    if (key->name() == name) return key;
  }
  return nullptr;
}

}  // namespace sma::target::bdev_modules
