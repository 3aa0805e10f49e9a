// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/uuid.h"
#include "jsonrpc/caller.h"
#include "sma/crypto_engine.h"

namespace sma::spdk {

/// A key as the target reports it; its destructor overwrites it. Movable.
struct CryptoKey {
  CryptoKey() = default;
  CryptoKey(CryptoKey&&) = default;
  CryptoKey& operator=(CryptoKey&&) = default;
  ~CryptoKey();

  std::string name{};
  std::string cipher{};      // "AES_XTS"
  std::string tweak_mode{};  // "SIMPLE_LBA"
  std::string key{};         // hex digits, upper or lower case
  std::string key2{};        // empty: no second key
};

/// Returns the UUID that SPDK gives to a crypto bdev on a bdev with the UUID `base`
/// (vbdev_crypto.c).
base::Uuid CryptoBdevUuid(const base::Uuid& base);

/// Converts the target's name of a cipher or tweak mode. Returns nullopt if it is unknown.
std::optional<VolumeCryptoParameters::Cipher> CipherOf(std::string_view name);
std::optional<VolumeCryptoParameters::TweakMode> TweakModeOf(std::string_view name);

/// Returns the target's name of a cipher or tweak mode; null if the target does not support it.
const char* CipherName(VolumeCryptoParameters::Cipher cipher);
const char* TweakModeName(VolumeCryptoParameters::TweakMode mode);

// Requests for the target's crypto methods. Callers use WipeKeys to wipe requests that contain
// keys.

jsonrpc::Request CreateCryptoKey(std::string_view name, const CryptoParams& params);
jsonrpc::Request GetCryptoKey(std::string_view name);
jsonrpc::Request DestroyCryptoKey(std::string_view name);
/// Creates a crypto bdev with an existing key.
jsonrpc::Request CreateCryptoBdev(std::string_view name, std::string_view base_name,
                                  std::string_view key_name);
/// Creates a crypto bdev with its own key, which the target names InlineKeyName() and deletes with
/// the bdev. The tweak mode is SIMPLE_LBA. `driver` is the name of the crypto driver; if it is
/// empty, the parameter is omitted.
jsonrpc::Request CreateCryptoBdevInline(std::string_view name, std::string_view base_name,
                                        const CryptoParams& params, std::string_view driver);
std::string InlineKeyName(std::string_view bdev_name, VolumeCryptoParameters::Cipher cipher);
jsonrpc::Request DeleteCryptoBdev(std::string_view name);

/// Overwrites the keys in a request or in an answer of accel_crypto_keys_get.
void WipeKeys(jsonrpc::Json& value);

/// Parses and wipes the answer of accel_crypto_keys_get for one name. Returns nullopt if there is
/// no such key, INTERNAL if the answer is malformed.
absl::StatusOr<std::optional<CryptoKey>> ParseCryptoKey(absl::StatusOr<jsonrpc::Json>& answer);

/// Returns true if the target answered that the key (or bdev) does not exist.
bool IsNoSuchKey(const absl::Status& status);
bool IsNoSuchCryptoBdev(const absl::Status& status);

}  // namespace sma::spdk
