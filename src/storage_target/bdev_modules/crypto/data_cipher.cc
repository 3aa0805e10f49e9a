// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/crypto/data_cipher.h"

#include <endian.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <span>

namespace sma::storage_target::bdev_crypto {
namespace {

constexpr uint32_t kSectorBytes = 512;

bool CountsSectors(TweakMode mode) {
  return mode == TweakMode::kIncr512FullLba || mode == TweakMode::kIncr512UpperLba;
}

const EVP_CIPHER* FindCipher(const CryptoKey& key) {
  if (key.cipher() == Cipher::kAesCbc) {
    return key.material().size() == 16 ? EVP_aes_128_cbc() : EVP_aes_256_cbc();
  }
  return key.material().size() == 32 ? EVP_aes_128_xts() : EVP_aes_256_xts();
}

uint32_t UnitsPerRun(const CryptoKey& key, uint32_t unit_bytes) {
  if (key.cipher() != Cipher::kAesXts || unit_bytes % XtsBatch::kBlockBytes != 0) return 1;
  size_t units = std::min(XtsBatch::kMaxBytes / unit_bytes, XtsBatch::kMaxUnits);
  return std::max(1u, static_cast<uint32_t>(units));
}

}  // namespace

template <typename Copy>
void IovCursor::Walk(size_t bytes, const Copy& copy) {
  while (bytes != 0 && iov_ != end_) {
    size_t part = std::min(bytes, iov_->iov_len - offset_);
    // An empty buffer may have a null address.
    if (part != 0) copy(static_cast<std::byte*>(iov_->iov_base) + offset_, part);
    bytes -= part;
    offset_ += part;
    if (offset_ == iov_->iov_len) {
      ++iov_;
      offset_ = 0;
    }
  }
}

void IovCursor::Skip(size_t bytes) {
  Walk(bytes, [](std::byte*, size_t) {});
}

std::byte* IovCursor::TakeWhole(size_t bytes) {
  while (iov_ != end_ && iov_->iov_len == 0) ++iov_;
  if (iov_ == end_ || iov_->iov_len - offset_ < bytes) return nullptr;
  std::byte* whole = static_cast<std::byte*>(iov_->iov_base) + offset_;
  Skip(bytes);
  return whole;
}

void IovCursor::CopyOut(std::byte* to, size_t bytes) {
  Walk(bytes, [&](const std::byte* part, size_t size) {
    std::memcpy(to, part, size);
    to += size;
  });
}

void IovCursor::CopyIn(const std::byte* from, size_t bytes) {
  Walk(bytes, [&](std::byte* part, size_t size) {
    std::memcpy(part, from, size);
    from += size;
  });
}

DataCipher::DataCipher(const CryptoKey& key, uint32_t block_size)
    : tweak_mode_(key.tweak_mode()),
      unit_bytes_(CountsSectors(key.tweak_mode()) ? kSectorBytes : block_size),
      units_per_block_(block_size / unit_bytes_),
      units_per_run_(UnitsPerRun(key, unit_bytes_)),
      encrypt_(MakeContext(key, true)),
      decrypt_(MakeContext(key, false)),
      batch_(units_per_run_ > 1 ? std::make_unique<XtsBatch>(key) : nullptr),
      run_(size_t{units_per_run_} * unit_bytes_) {}

CipherContext DataCipher::MakeContext(const CryptoKey& key, bool encrypt) {
  CipherContext context(EVP_CIPHER_CTX_new());
  const auto* material = reinterpret_cast<const unsigned char*>(key.material().data());
  if (!context ||
      EVP_CipherInit_ex(context.get(), FindCipher(key), nullptr, material, nullptr, encrypt) != 1) {
    std::abort();
  }
  // This call is not made for AES-XTS, which never pads, because OpenSSL would then repeat the
  // setting for each data unit.
  if (key.cipher() == Cipher::kAesCbc) EVP_CIPHER_CTX_set_padding(context.get(), 0);
  return context;
}

Tweak DataCipher::MakeTweak(uint64_t unit) const {
  switch (tweak_mode_) {
    case TweakMode::kSimpleLba:
    case TweakMode::kIncr512FullLba:
      return {htole64(unit), 0};
    case TweakMode::kJoinNegLbaWithLba:
      return {htole64(unit), htole64(~unit & INT64_MAX)};
    case TweakMode::kIncr512UpperLba:
      return {0, htole64(unit)};
  }
  return {};
}

bool DataCipher::RunUnit(EVP_CIPHER_CTX* context, uint64_t unit, const std::byte* from,
                         std::byte* to) const {
  Tweak tweak = MakeTweak(unit);
  int written = 0;
  return EVP_CipherInit_ex(context, nullptr, nullptr, nullptr,
                           reinterpret_cast<const unsigned char*>(tweak.data()), -1) == 1 &&
         EVP_CipherUpdate(context, reinterpret_cast<unsigned char*>(to), &written,
                          reinterpret_cast<const unsigned char*>(from),
                          static_cast<int>(unit_bytes_)) == 1 &&
         written == static_cast<int>(unit_bytes_);
}

bool DataCipher::Run(bool encrypt, uint64_t unit, uint32_t unit_count, const std::byte* from,
                     std::byte* to) {
  if (unit_count == 1) {
    return RunUnit(encrypt ? encrypt_.get() : decrypt_.get(), unit, from, to);
  }
  std::array<Tweak, XtsBatch::kMaxUnits> tweaks;
  for (uint32_t i = 0; i < unit_count; ++i) tweaks[i] = MakeTweak(unit + i);
  std::span used(tweaks.data(), unit_count);
  return encrypt ? batch_->Encrypt(used, unit_bytes_, from, to)
                 : batch_->Decrypt(used, unit_bytes_, from, to);
}

bool DataCipher::Encrypt(uint64_t lba, uint64_t block_count, IovCursor& from, std::byte* to) {
  uint64_t end = FirstUnit(lba + block_count);
  for (uint64_t unit = FirstUnit(lba); unit != end;) {
    auto count = static_cast<uint32_t>(std::min<uint64_t>(units_per_run_, end - unit));
    const size_t bytes = size_t{count} * unit_bytes_;
    const std::byte* plain = from.TakeWhole(bytes);
    if (plain == nullptr) {
      from.CopyOut(run_.data(), bytes);
      plain = run_.data();
    }
    if (!Run(true, unit, count, plain, to)) return false;
    unit += count;
    to += bytes;
  }
  return true;
}

bool DataCipher::Decrypt(uint64_t lba, uint64_t block_count, IovCursor data) {
  uint64_t end = FirstUnit(lba + block_count);
  for (uint64_t unit = FirstUnit(lba); unit != end;) {
    auto count = static_cast<uint32_t>(std::min<uint64_t>(units_per_run_, end - unit));
    const size_t bytes = size_t{count} * unit_bytes_;
    if (std::byte* whole = data.TakeWhole(bytes)) {
      if (!Run(false, unit, count, whole, whole)) return false;
    } else {
      IovCursor start = data;
      data.CopyOut(run_.data(), bytes);
      if (!Run(false, unit, count, run_.data(), run_.data())) return false;
      start.CopyIn(run_.data(), bytes);
    }
    unit += count;
  }
  return true;
}

}  // namespace sma::storage_target::bdev_crypto
