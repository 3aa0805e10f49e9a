// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "storage_target/bdev_modules/crypto/crypto_key.h"

namespace sma::storage_target::bdev_crypto {

struct FreeCipherContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeCipherContext>;

/// The two halves of a tweak in the order in which they are in memory: the lower half first
/// (little-endian).
using Tweak = std::array<uint64_t, 2>;

/// AES-XTS (IEEE 1619-2007 §5.3, §5.4) for several short data units in one call. Setting another
/// tweak in OpenSSL costs as much time as encrypting 512 bytes; therefore OpenSSL encrypts the
/// tweaks of all units in one call and then all data in one call, both with AES-ECB, and only the
/// exclusive-or with the multiplied tweaks is done here. Not thread-safe.
class XtsBatch {
 public:
  /// The largest input of one call, in bytes and in units.
  static constexpr size_t kMaxBytes = 4096;
  static constexpr size_t kMaxUnits = 8;
  /// The size of an AES block. Units are multiples of this.
  static constexpr size_t kBlockBytes = 16;

  /// `key` is an AES-XTS key. Aborts the program if OpenSSL cannot allocate memory.
  explicit XtsBatch(const CryptoKey& key);

  /// Encrypts or decrypts consecutive units from `from` to `to` (the same address, or not
  /// overlapping). Each has `unit_bytes` bytes and its own tweak of `tweaks`, which are
  /// overwritten. Returns false if OpenSSL fails.
  bool Encrypt(std::span<Tweak> tweaks, size_t unit_bytes, const std::byte* from, std::byte* to);
  bool Decrypt(std::span<Tweak> tweaks, size_t unit_bytes, const std::byte* from, std::byte* to);

 private:
  bool Run(EVP_CIPHER_CTX* context, std::span<Tweak> tweaks, size_t unit_bytes,
           const std::byte* from, std::byte* to);

  const CipherContext encrypt_tweaks_;
  const CipherContext encrypt_;
  const CipherContext decrypt_;
  alignas(
      64) std::array<std::byte, kMaxBytes> masks_;  // the value that each block is combined with
};

}  // namespace sma::storage_target::bdev_crypto
