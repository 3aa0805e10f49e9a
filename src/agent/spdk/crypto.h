#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/uuid.h"
#include "jsonrpc/caller.h"
#include "sma/crypto_engine.h"

namespace sma::spdk {

/// A key as the target tells it; overwritten when it goes. Movable.
struct CryptoKey {
  CryptoKey() = default;
  CryptoKey(CryptoKey&&) = default;
  CryptoKey& operator=(CryptoKey&&) = default;
  ~CryptoKey();

  std::string name{};
  std::string cipher{};      // "AES_XTS"
  std::string tweak_mode{};  // "SIMPLE_LBA"
  std::string key{};         // hex digits of either case
  std::string key2{};        // empty: none
};

/// The UUID of every crypto bdev on the bdev with the UUID `base` (SPDK, vbdev_crypto.c).
base::Uuid CryptoBdevUuid(const base::Uuid& base);

/// The cipher and the tweak mode that the target calls so; nullopt: none.
std::optional<VolumeCryptoParameters::Cipher> CipherOf(std::string_view name);
std::optional<VolumeCryptoParameters::TweakMode> TweakModeOf(std::string_view name);

/// What the target calls a cipher and a tweak mode; null: nothing.
const char* CipherName(VolumeCryptoParameters::Cipher cipher);
const char* TweakModeName(VolumeCryptoParameters::TweakMode mode);

// Requests of the target's crypto methods. Those with keys are to be wiped by WipeKeys.

jsonrpc::Request CreateCryptoKey(std::string_view name, const CryptoParams& params);
jsonrpc::Request GetCryptoKey(std::string_view name);
jsonrpc::Request DestroyCryptoKey(std::string_view name);
/// A crypto bdev with a key that was created before.
jsonrpc::Request CreateCryptoBdev(std::string_view name, std::string_view base_name,
                                  std::string_view key_name);
/// A crypto bdev with a key of its own, which goes with it and which the target calls
/// InlineKeyName. Its tweak mode is SIMPLE_LBA. `driver`: the crypto driver's name; empty: not
/// said.
jsonrpc::Request CreateCryptoBdevInline(std::string_view name, std::string_view base_name,
                                        const CryptoParams& params, std::string_view driver);
std::string InlineKeyName(std::string_view bdev_name, VolumeCryptoParameters::Cipher cipher);
jsonrpc::Request DeleteCryptoBdev(std::string_view name);

/// Overwrites the keys in a request, or in an answer of accel_crypto_keys_get.
void WipeKeys(jsonrpc::Json& value);

/// What accel_crypto_keys_get answered for one name: nullopt when there is no such key. Wipes the
/// answer. INTERNAL when it is malformed.
absl::StatusOr<std::optional<CryptoKey>> ParseCryptoKey(absl::StatusOr<jsonrpc::Json>& answer);

/// Whether the target said that a key, or a bdev, does not exist.
bool IsNoSuchKey(const absl::Status& status);
bool IsNoSuchCryptoBdev(const absl::Status& status);

}  // namespace sma::spdk
