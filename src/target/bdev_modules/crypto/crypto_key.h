#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/secret.h"

namespace sma::target::bdev_modules {

enum class Cipher : uint8_t { kAesCbc, kAesXts };

/// How the tweak of AES-XTS (the initialisation vector of AES-CBC), a little-endian number of 128
/// bits, comes from the LBA. The names are SPDK's.
enum class TweakMode : uint8_t {
  kSimpleLba,          // the LBA
  kJoinNegLbaWithLba,  // the LBA below, its complement without the highest bit above
  kIncr512FullLba,     // each 512 bytes by themselves, by their number on the disk
  kIncr512UpperLba,    // the same, the number in the upper 64 bits
};

const char* CipherName(Cipher cipher);                     // "AES_XTS"
std::optional<Cipher> ParseCipher(std::string_view name);  // as above
const char* TweakModeName(TweakMode mode);                 // "SIMPLE_LBA"
std::optional<TweakMode> ParseTweakMode(std::string_view name);

/// A key as it was given, and as ciphers take it.
class CryptoKey {
 public:
  struct Params {
    std::string name{};
    Cipher cipher = Cipher::kAesXts;
    TweakMode tweak_mode = TweakMode::kSimpleLba;
    std::string_view key{};   // hex digits of either case
    std::string_view key2{};  // AES-XTS only
  };
  /// EINVAL: not hex digits, a length that the cipher has not, key2 missing, not wanted, or equal
  /// to key; ENOMEM: no more memory can be locked. 0: `*out` is set.
  static int Make(const Params& params, std::shared_ptr<const CryptoKey>* out);

  /// `secret`: key and key2 as given, then the bytes of both.
  CryptoKey(const Params& params, base::Secret secret);

  const std::string& name() const { return name_; }
  Cipher cipher() const { return cipher_; }
  TweakMode tweak_mode() const { return tweak_mode_; }
  /// As given.
  std::string_view key() const { return secret_.bytes().substr(0, key_size_); }
  std::string_view key2() const { return secret_.bytes().substr(key_size_, key2_size_); }
  /// The bytes of key and key2 one after the other.
  std::string_view material() const { return secret_.bytes().substr(key_size_ + key2_size_); }

 private:
  const std::string name_;
  const Cipher cipher_;
  const TweakMode tweak_mode_;
  const size_t key_size_;
  const size_t key2_size_;
  const base::Secret secret_;  // all in one, because each takes a locked page
};

/// The keys by name. Control reactor only. Who uses a key shares it, so one that is destroyed is
/// wiped when the last bdev with it is gone.
class KeyStore {
 public:
  /// EEXIST, or as CryptoKey::Make.
  int Create(const CryptoKey::Params& params);
  /// ENOENT.
  int Destroy(std::string_view name);
  /// nullptr: none of this name.
  std::shared_ptr<const CryptoKey> Find(std::string_view name) const;
  /// In the order of creation.
  const std::vector<std::shared_ptr<const CryptoKey>>& keys() const { return keys_; }

 private:
  std::vector<std::shared_ptr<const CryptoKey>> keys_;
};

}  // namespace sma::target::bdev_modules
