// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/crypto/xts_batch.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

namespace sma::storage_target::bdev_crypto {
namespace {

// The number of units whose masks are computed in parallel, since each step of one mask depends on
// the previous step.
constexpr size_t kLanes = 4;

using Block = uint64_t __attribute__((vector_size(XtsBatch::kBlockBytes), may_alias));

Block Load(const std::byte* from) {
  Block block;
  std::memcpy(&block, from, sizeof block);
  return block;
}

void Store(std::byte* to, Block block) { std::memcpy(to, &block, sizeof block); }

static_assert(std::endian::native == std::endian::little);

// Multiplies by the primitive element of GF(2^128): shifts left by one bit, with the first byte as
// the lowest, and combines the first byte with 135 if a bit is shifted out (IEEE 1619-2007 §5.2).
Block Double(Block mask) {
  // Uses 32-bit words, which every x86-64 CPU can shift arithmetically: a word becomes all ones if
  // its highest bit is shifted out.
  using Words = int32_t __attribute__((vector_size(XtsBatch::kBlockBytes)));
  auto words = reinterpret_cast<Words>(mask);
  Words carry = __builtin_shufflevector(words, words, 3, 0, 1, 2) >> 31;
  return (mask + mask) ^ reinterpret_cast<Block>(carry & Words{0x87, 0, 1, 0});
}

CipherContext MakeEcb(std::string_view key, bool encrypt) {
  CipherContext context(EVP_CIPHER_CTX_new());
  const EVP_CIPHER* cipher = key.size() == 16 ? EVP_aes_128_ecb() : EVP_aes_256_ecb();
  if (!context || EVP_CipherInit_ex(context.get(), cipher, nullptr,
                                    reinterpret_cast<const unsigned char*>(key.data()), nullptr,
                                    encrypt) != 1) {
    std::abort();
  }
  EVP_CIPHER_CTX_set_padding(context.get(), 0);
  return context;
}

bool RunEcb(EVP_CIPHER_CTX* context, void* data, size_t size_bytes) {
  auto* bytes = static_cast<unsigned char*>(data);
  int written = 0;
  return EVP_CipherUpdate(context, bytes, &written, bytes, static_cast<int>(size_bytes)) == 1 &&
         written == static_cast<int>(size_bytes);
}

// Computes the masks of several units in parallel, writes them to memory at `masks`, and writes the
// data combined with them to `to`. The indices are a pack so that all masks stay in registers.
template <size_t... lanes>
void Mask(std::index_sequence<lanes...>, const Tweak* tweaks, size_t unit_bytes,
          const std::byte* from, std::byte* to, std::byte* masks) {
  Block mask[] = {Load(reinterpret_cast<const std::byte*>(&tweaks[lanes]))...};
  auto step = [&](Block& lane_mask, size_t at) {
    Store(masks + at, lane_mask);
    Store(to + at, Load(from + at) ^ lane_mask);
    lane_mask = Double(lane_mask);
  };
  for (size_t offset = 0; offset < unit_bytes; offset += XtsBatch::kBlockBytes) {
    (step(mask[lanes], lanes * unit_bytes + offset), ...);
  }
}

}  // namespace

XtsBatch::XtsBatch(const CryptoKey& key)
    : encrypt_tweaks_(MakeEcb(key.material().substr(key.material().size() / 2), true)),
      encrypt_(MakeEcb(key.material().substr(0, key.material().size() / 2), true)),
      decrypt_(MakeEcb(key.material().substr(0, key.material().size() / 2), false)) {}

bool XtsBatch::Encrypt(std::span<Tweak> tweaks, size_t unit_bytes, const std::byte* from,
                       std::byte* to) {
  return Run(encrypt_.get(), tweaks, unit_bytes, from, to);
}

bool XtsBatch::Decrypt(std::span<Tweak> tweaks, size_t unit_bytes, const std::byte* from,
                       std::byte* to) {
  return Run(decrypt_.get(), tweaks, unit_bytes, from, to);
}

bool XtsBatch::Run(EVP_CIPHER_CTX* context, std::span<Tweak> tweaks, size_t unit_bytes,
                   const std::byte* from, std::byte* to) {
  if (!RunEcb(encrypt_tweaks_.get(), tweaks.data(), tweaks.size_bytes())) return false;
  size_t unit = 0;
  for (; unit + kLanes <= tweaks.size(); unit += kLanes) {
    size_t at = unit * unit_bytes;
    Mask(std::make_index_sequence<kLanes>(), &tweaks[unit], unit_bytes, from + at, to + at,
         masks_.data() + at);
  }
  for (; unit < tweaks.size(); ++unit) {
    size_t at = unit * unit_bytes;
    Mask(std::make_index_sequence<1>(), &tweaks[unit], unit_bytes, from + at, to + at,
         masks_.data() + at);
  }
  size_t size = tweaks.size() * unit_bytes;
  if (!RunEcb(context, to, size)) return false;
  for (size_t at = 0; at < size; at += kBlockBytes) {
    Store(to + at, Load(to + at) ^ Load(masks_.data() + at));
  }
  return true;
}

}  // namespace sma::storage_target::bdev_crypto
