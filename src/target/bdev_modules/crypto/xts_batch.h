#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "target/bdev_modules/crypto/crypto_key.h"

namespace sma::target::bdev_modules {

struct FreeCipherContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeCipherContext>;

/// The two halves of a tweak as they stand in memory, the lower first (little-endian).
using Tweak = std::array<uint64_t, 2>;

/// AES-XTS (IEEE 1619-2007 §5.3, §5.4) for several short data units in one go. Giving OpenSSL
/// another tweak costs it as much time as a unit of 512 bytes; so here OpenSSL encrypts the tweaks
/// of all units at once and then all data at once, both as AES-ECB, and only the exclusive-or with
/// the multiplied tweaks around it is done here. One thread's.
class XtsBatch {
 public:
  /// What one call takes at most, in bytes and in units.
  static constexpr size_t kMaxBytes = 4096;
  static constexpr size_t kMaxUnits = 8;
  /// Units are multiples of this: a block of AES.
  static constexpr size_t kBlockBytes = 16;

  /// For an AES-XTS key; aborts the program when OpenSSL has no memory.
  explicit XtsBatch(const CryptoKey& key);

  /// Encrypts or decrypts units that lie one after the other from `from` to `to` (the same place,
  /// or not overlapping), each of `unit_bytes` with its own tweak of `tweaks`,
  /// which are overwritten. False when OpenSSL fails.
  bool Encrypt(std::span<Tweak> tweaks, size_t unit_bytes, const std::byte* from, std::byte* to);
  bool Decrypt(std::span<Tweak> tweaks, size_t unit_bytes, const std::byte* from, std::byte* to);

 private:
  bool Run(EVP_CIPHER_CTX* context, std::span<Tweak> tweaks, size_t unit_bytes,
           const std::byte* from, std::byte* to);

  const CipherContext encrypt_tweaks_;
  const CipherContext encrypt_;
  const CipherContext decrypt_;
  alignas(64) std::array<std::byte, kMaxBytes> masks_;  // what each block is combined with
};

}  // namespace sma::target::bdev_modules
