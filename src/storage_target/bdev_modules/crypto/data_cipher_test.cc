// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/crypto/data_cipher.h"

#include <gtest/gtest.h>

#include <cstring>
#include <tuple>

namespace sma::storage_target::bdev_crypto {
namespace {

// The key size in bits, the block size in bytes, and the tweak mode.
using Shape = std::tuple<int, uint32_t, TweakMode>;

class DataCipherTest : public testing::TestWithParam<Shape> {
 protected:
  uint32_t block_size() const { return std::get<1>(GetParam()); }
  TweakMode mode() const { return std::get<2>(GetParam()); }

  static std::shared_ptr<const CryptoKey> MakeKey() {
    auto [bits, block_size, mode] = GetParam();
    const auto digits = static_cast<size_t>(bits) / 4;
    const std::string key(digits, '3');
    const std::string key2(digits, '9');
    std::shared_ptr<const CryptoKey> made;
    EXPECT_EQ(CryptoKey::Make({.name = "k", .tweak_mode = mode, .key = key, .key2 = key2}, &made),
              0);
    return made;
  }

  static std::vector<std::byte> Plain(size_t size) {
    std::vector<std::byte> data(size);
    for (size_t i = 0; i < size; ++i) data[i] = std::byte((i * 37 + i / 251) % 256);
    return data;
  }

  // Compares one data unit with OpenSSL's own AES-XTS.
  static void ExpectUnit(const CryptoKey& key, uint64_t low, uint64_t high, const std::byte* plain,
                         const std::byte* sealed, size_t size) {
    uint64_t tweak[2] = {low, high};
    CipherContext context(EVP_CIPHER_CTX_new());
    EVP_EncryptInit_ex(context.get(),
                       key.material().size() == 32 ? EVP_aes_128_xts() : EVP_aes_256_xts(), nullptr,
                       reinterpret_cast<const unsigned char*>(key.material().data()),
                       reinterpret_cast<const unsigned char*>(tweak));
    std::vector<std::byte> expected(size);
    int written = 0;
    EVP_EncryptUpdate(context.get(), reinterpret_cast<unsigned char*>(expected.data()), &written,
                      reinterpret_cast<const unsigned char*>(plain), static_cast<int>(size));
    ASSERT_EQ(written, static_cast<int>(size));
    ASSERT_EQ(std::memcmp(expected.data(), sealed, size), 0);
  }
};

// Tests all counts of blocks, which include complete and partial runs, and block numbers of more
// than 32 bits.
TEST_P(DataCipherTest, EachUnitIsAesXtsWithItsOwnTweak) {
  std::shared_ptr<const CryptoKey> key = MakeKey();
  DataCipher cipher(*key, block_size());
  constexpr uint64_t kLba = (uint64_t{1} << 33) + 5;
  const bool sectors = mode() != TweakMode::kSimpleLba;
  const size_t unit_bytes = sectors ? 512 : block_size();
  for (uint64_t blocks = 1; blocks <= 19; ++blocks) {
    SCOPED_TRACE(blocks);
    std::vector<std::byte> plain = Plain(blocks * block_size());
    std::vector<std::byte> sealed(plain.size());
    iovec whole{plain.data(), plain.size()};
    IovCursor from(&whole, 1);
    ASSERT_TRUE(cipher.Encrypt(kLba, blocks, from, sealed.data()));
    const uint64_t first = kLba * (block_size() / unit_bytes);
    for (size_t offset = 0; offset < plain.size(); offset += unit_bytes) {
      SCOPED_TRACE(offset);
      uint64_t unit = first + offset / unit_bytes;
      bool upper = mode() == TweakMode::kIncr512UpperLba;
      ExpectUnit(*key, upper ? 0 : unit, upper ? unit : 0, &plain[offset], &sealed[offset],
                 unit_bytes);
      if (HasFatalFailure()) return;
    }
    // Decrypts again, with buffer boundaries within units.
    std::vector<std::byte> back = sealed;
    const size_t cut = std::min<size_t>(700, back.size() / 2 + 1);
    iovec pieces[] = {{back.data(), cut}, {nullptr, 0}, {&back[cut], back.size() - cut}};
    ASSERT_TRUE(cipher.Decrypt(kLba, blocks, IovCursor(pieces, 3)));
    ASSERT_EQ(back, plain);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, DataCipherTest,
                         testing::Combine(testing::Values(128, 256),
                                          testing::Values(512u, 1024u, 2048u, 4096u),
                                          testing::Values(TweakMode::kSimpleLba,
                                                          TweakMode::kIncr512FullLba,
                                                          TweakMode::kIncr512UpperLba)));

}  // namespace
}  // namespace sma::storage_target::bdev_crypto
