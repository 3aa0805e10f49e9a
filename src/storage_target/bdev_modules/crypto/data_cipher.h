// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <openssl/evp.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "storage_target/bdev_modules/crypto/crypto_key.h"
#include "storage_target/bdev_modules/crypto/xts_batch.h"

namespace sma::storage_target::bdev_crypto {

/// Iterates over the bytes of an I/O's buffers, from the first to the last.
class IovCursor {
 public:
  IovCursor(const iovec* iovs, uint32_t iov_count) : iov_(iovs), end_(iovs + iov_count) {}

  /// Advances by `bytes`.
  void Skip(size_t bytes);
  /// Returns the next `bytes` and advances if they are contiguous in one buffer; otherwise returns
  /// nullptr and does not advance.
  std::byte* TakeWhole(size_t bytes);
  /// Copy the next bytes and advance.
  void CopyOut(std::byte* to, size_t bytes);
  void CopyIn(const std::byte* from, size_t bytes);

 private:
  template <typename Copy>
  void Walk(size_t bytes, const Copy& copy);

  const iovec* iov_;
  const iovec* end_;
  size_t offset_ = 0;  // within *iov_
};

/// Encrypts and decrypts the blocks of a disk. Not thread-safe. Keeps its OpenSSL contexts,
/// initialised with the key, between calls.
class DataCipher {
 public:
  DataCipher(const CryptoKey& key, uint32_t block_size);

  /// Encrypts `block_count` blocks from `from` to `to`; `lba` is the number of the first. Returns
  /// false if OpenSSL fails.
  bool Encrypt(uint64_t lba, uint64_t block_count, IovCursor& from, std::byte* to);
  /// Decrypts blocks in place. Returns false if OpenSSL fails.
  bool Decrypt(uint64_t lba, uint64_t block_count, IovCursor data);

 private:
  static CipherContext MakeContext(const CryptoKey& key, bool encrypt);
  uint64_t FirstUnit(uint64_t lba) const { return lba * units_per_block_; }
  Tweak MakeTweak(uint64_t unit) const;
  bool Run(bool encrypt, uint64_t unit, uint32_t unit_count, const std::byte* from, std::byte* to);
  bool RunUnit(EVP_CIPHER_CTX* context, uint64_t unit, const std::byte* from, std::byte* to) const;

  const TweakMode tweak_mode_;
  const uint32_t unit_bytes_;  // size of a data unit with its own tweak: a block, or 512 bytes
  const uint32_t units_per_block_;
  const uint32_t units_per_run_;  // number of units that are processed together
  const CipherContext encrypt_;
  const CipherContext decrypt_;
  std::unique_ptr<XtsBatch> batch_;  // set if units_per_run_ is more than one
  std::vector<std::byte> run_;       // buffer for units that span several buffers
};

}  // namespace sma::storage_target::bdev_crypto
