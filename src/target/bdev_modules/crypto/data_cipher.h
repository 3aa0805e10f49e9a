#pragma once

#include <openssl/evp.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "target/bdev_modules/crypto/crypto_key.h"
#include "target/bdev_modules/crypto/xts_batch.h"

namespace sma::target::bdev_modules {

/// Bytes spread over an I/O's buffers, from the first to the last.
class IovCursor {
 public:
  IovCursor(const iovec* iovs, uint32_t iov_count) : iov_(iovs), end_(iovs + iov_count) {}

  /// Goes on by `bytes`.
  void Skip(size_t bytes);
  /// The next `bytes` if they lie in one buffer, and goes on past them; nullptr, and stays,
  /// otherwise.
  std::byte* TakeWhole(size_t bytes);
  /// Copies the next bytes and goes on past them.
  void CopyOut(std::byte* to, size_t bytes);
  void CopyIn(const std::byte* from, size_t bytes);

 private:
  template <typename Copy>
  void Walk(size_t bytes, const Copy& copy);

  const iovec* iov_;
  const iovec* end_;
  size_t offset_ = 0;  // in *iov_
};

/// Encrypts and decrypts the blocks of a disk. One thread's; keeps its OpenSSL contexts, set up for
/// the key, from one call to the next.
class DataCipher {
 public:
  DataCipher(const CryptoKey& key, uint32_t block_size);

  /// Encrypts the next `block_count` blocks of `from`, those from `lba` on, to `to`. False when
  /// OpenSSL fails.
  bool Encrypt(uint64_t lba, uint64_t block_count, IovCursor& from, std::byte* to);
  /// Decrypts them where they are.
  bool Decrypt(uint64_t lba, uint64_t block_count, IovCursor data);

 private:
  static CipherContext MakeContext(const CryptoKey& key, bool encrypt);
  uint64_t FirstUnit(uint64_t lba) const { return lba * units_per_block_; }
  Tweak MakeTweak(uint64_t unit) const;
  bool Run(bool encrypt, uint64_t unit, uint32_t unit_count, const std::byte* from, std::byte* to);
  bool RunUnit(EVP_CIPHER_CTX* context, uint64_t unit, const std::byte* from, std::byte* to) const;

  const TweakMode tweak_mode_;
  const uint32_t unit_bytes_;  // what has a tweak of its own: a block, or 512 bytes
  const uint32_t units_per_block_;
  const uint32_t units_per_run_;  // how many are done at once
  const CipherContext encrypt_;
  const CipherContext decrypt_;
  std::unique_ptr<XtsBatch> batch_;  // where more than one is
  std::vector<std::byte> run_;       // units that lie in more than one buffer
};

}  // namespace sma::target::bdev_modules
