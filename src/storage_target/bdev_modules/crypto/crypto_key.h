// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/secret.h"

namespace sma::storage_target::bdev_crypto {

enum class Cipher : uint8_t { kAesCbc, kAesXts };

/// How the tweak of AES-XTS, or the initialisation vector of AES-CBC, is derived from the LBA. It
/// is a little-endian number of 128 bits. The names are SPDK's.
enum class TweakMode : uint8_t {
  kSimpleLba,  // the lower half is the LBA, the upper half its complement without the highest bit
  kJoinNegLbaWithLba,  // each 512 bytes are encrypted separately, with their number on the disk
  kIncr512FullLba,     // the same, with the number in the upper 64 bits
  kIncr512UpperLba,    // the same, the number in the upper 64 bits
};

const char* CipherName(Cipher cipher);                     // "AES_XTS"
std::optional<Cipher> ParseCipher(std::string_view name);  // as above
const char* TweakModeName(TweakMode mode);                 // "SIMPLE_LBA"
std::optional<TweakMode> ParseTweakMode(std::string_view name);

/// An encryption key, in the text form given by the user and in binary form.
class CryptoKey {
 public:
  struct Params {
    std::string name{};
    Cipher cipher = Cipher::kAesXts;
    TweakMode tweak_mode = TweakMode::kSimpleLba;
    std::string_view key{};   // hex digits of either case
    std::string_view key2{};  // AES-XTS only
  };
  /// Returns 0 and sets `*out`. Errors: EINVAL if a key is not hexadecimal or has a length that the
  /// cipher does not support, or if key2 is missing, not supported, or equal to key; ENOMEM if no
  /// more memory can be locked.
  static int Make(const Params& params, std::shared_ptr<const CryptoKey>* out);

  /// `secret` contains key and key2 in text form, then the bytes of both.
  CryptoKey(const Params& params, base::Secret secret);

  const std::string& name() const { return name_; }
  Cipher cipher() const { return cipher_; }
  TweakMode tweak_mode() const { return tweak_mode_; }
  /// Return the keys in the text form given by the user.
  std::string_view key() const { return secret_.bytes().substr(0, key_size_); }
  std::string_view key2() const { return secret_.bytes().substr(key_size_, key2_size_); }
  /// Returns the bytes of key, followed by those of key2.
  std::string_view material() const { return secret_.bytes().substr(key_size_ + key2_size_); }

 private:
  const std::string name_;
  const Cipher cipher_;
  const TweakMode tweak_mode_;
  const size_t key_size_;
  const size_t key2_size_;
  const base::Secret secret_;  // one allocation, because each secret uses a locked page
};

/// The keys by name. Used only on the control reactor. Users of a key share it, so a destroyed key
/// is wiped when the last bdev that uses it is deleted. Until then its name stays taken: bdevs are
/// reported and saved with the name of their key, which must not refer to another key.
class KeyStore {
 public:
  /// Returns 0 on success; EEXIST if a key with this name exists, or was destroyed but is still
  /// used by a bdev; otherwise the error of CryptoKey::Make.
  int Create(const CryptoKey::Params& params);
  /// Returns 0 or ENOENT. As in SPDK, a key in use may be destroyed.
  int Destroy(std::string_view name);
  /// Returns nullptr if there is no key of this name.
  std::shared_ptr<const CryptoKey> Find(std::string_view name) const;
  /// Returns the keys in the order of creation.
  const std::vector<std::shared_ptr<const CryptoKey>>& keys() const { return keys_; }

 private:
  bool IsTaken(std::string_view name);

  std::vector<std::shared_ptr<const CryptoKey>> keys_;
  std::vector<std::weak_ptr<const CryptoKey>> destroyed_;  // expired: no longer in use
};

}  // namespace sma::storage_target::bdev_crypto
