// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/crypto/crypto_bdev.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <cstring>

#include "base/hex.h"
#include "storage_target/bdev/testing/test_bdev.h"
#include "storage_target/bdev_modules/crypto/testing/crypto_fixture.h"

namespace sma::storage_target::bdev_crypto {
namespace {

using bdev::IoStatus;
using bdev::IoType;
using bdev::TestIo;
using std::chrono::seconds;

constexpr uint64_t kBlocks = 256;
constexpr char kKey[] = "1234567890ABCDEF1234567890abcdef";
constexpr char kKey2[] = "fedcba0987654321fedcba0987654321";

/// A disk in a vector, so that the test can read the stored data.
class MemoryBdev : public bdev::Bdev {
 public:
  MemoryBdev(Info info, std::vector<std::byte>& medium) : Bdev(std::move(info)), medium_(medium) {}
  std::string_view module() const override { return "memory"; }
  bool Supports(IoType type) const override {
    return type == IoType::kRead || type == IoType::kWrite;
  }

 protected:
  class MemoryChannel : public bdev::Channel {
   public:
    MemoryChannel(Bdev& bdev, Reactor& reactor, std::vector<std::byte>& medium)
        : Channel(bdev, reactor), medium_(medium) {}

   private:
    void DoSubmit(bdev::Io& io) override {
      std::byte* at = medium_.data() + io.lba * bdev().block_size();
      for (uint32_t i = 0; i < io.iov_count; ++i) {
        void* theirs = io.iovs[i].iov_base;
        if (io.type == IoType::kRead) {
          std::memcpy(theirs, at, io.iovs[i].iov_len);
        } else {
          std::memcpy(at, theirs, io.iovs[i].iov_len);
        }
        at += io.iovs[i].iov_len;
      }
      Complete(io, IoStatus::kOk);
    }
    std::vector<std::byte>& medium_;
  };
  std::unique_ptr<bdev::Channel> MakeChannel(Reactor& reactor) override {
    return std::make_unique<MemoryChannel>(*this, reactor, medium_);
  }

 private:
  std::vector<std::byte>& medium_;
};

/// Returns the expected stored bytes of a data unit, computed with OpenSSL's own interface and an
/// explicit tweak.
std::vector<std::byte> Expected(const EVP_CIPHER* cipher, const std::string& key_bytes,
                                const std::array<uint8_t, 16>& tweak, const std::byte* plain,
                                size_t size) {
  std::vector<std::byte> sealed(size);
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  EVP_EncryptInit_ex(context, cipher, nullptr,
                     reinterpret_cast<const unsigned char*>(key_bytes.data()), tweak.data());
  EVP_CIPHER_CTX_set_padding(context, 0);
  int written = 0;
  EVP_EncryptUpdate(context, reinterpret_cast<unsigned char*>(sealed.data()), &written,
                    reinterpret_cast<const unsigned char*>(plain), static_cast<int>(size));
  EVP_CIPHER_CTX_free(context);
  EXPECT_EQ(written, static_cast<int>(size));
  return sealed;
}

std::array<uint8_t, 16> LittleEndian(uint64_t low, uint64_t high) {
  std::array<uint8_t, 16> bytes{};
  for (size_t i = 0; i < 8; ++i) {
    bytes[i] = static_cast<uint8_t>(low >> (8 * i));
    bytes[8 + i] = static_cast<uint8_t>(high >> (8 * i));
  }
  return bytes;
}

class CryptoTest : public CryptoFixture {
 protected:
  void Open(const CryptoKey::Params& params) {
    OpenOn(std::make_unique<MemoryBdev>(
               bdev::Bdev::Info{.name = "Base",
                                .uuid = *base::Uuid::Parse("00000002-1111-4222-8333-444444444444"),
                                .block_size = kBlockSize,
                                .block_count = kBlocks},
               medium_),
           params);
  }

  static CryptoKey::Params Params(Cipher cipher, TweakMode mode, const char* key = kKey,
                                  const char* key2 = kKey2) {
    return {.name = "k0",
            .cipher = cipher,
            .tweak_mode = mode,
            .key = key,
            .key2 = cipher == Cipher::kAesXts ? key2 : ""};
  }

  static std::vector<std::byte> Pattern(size_t size) {
    std::vector<std::byte> data(size);
    for (size_t i = 0; i < size; ++i) data[i] = std::byte((i * 31 + i / 300) % 253);
    return data;
  }

  // Writes and reads back through buffers of odd sizes.
  void RoundTrip(uint64_t lba, uint64_t blocks) {
    std::vector<std::byte> plain = Pattern(blocks * kBlockSize);
    std::vector<std::byte> copy = plain;
    TestIo write(IoType::kWrite, lba, 0, kBlockSize);
    write.block_count = blocks;
    iovec write_iovs[] = {{plain.data(), 1000}, {plain.data() + 1000, plain.size() - 1000}};
    write.iovs = write_iovs;
    write.iov_count = 2;
    ASSERT_EQ(RunIo(*channel_, write), IoStatus::kOk);
    EXPECT_EQ(plain, copy) << "the submitter's data were changed";
    std::vector<std::byte> back(plain.size());
    TestIo read(IoType::kRead, lba, 0, kBlockSize);
    read.block_count = blocks;
    iovec read_iovs[] = {{back.data(), 5000 % back.size()},
                         {back.data() + 5000 % back.size(), back.size() - 5000 % back.size()}};
    read.iovs = read_iovs;
    read.iov_count = 2;
    ASSERT_EQ(RunIo(*channel_, read), IoStatus::kOk);
    EXPECT_EQ(back, plain);
  }

  // Checks that the medium contains the expected ciphertext of each unit of the pattern, starting
  // at `lba`.
  void ExpectOnMedium(uint64_t lba, uint64_t blocks, size_t unit_bytes, const EVP_CIPHER* cipher,
                      const std::string& key_hex,
                      const std::function<std::array<uint8_t, 16>(uint64_t unit)>& tweak) {
    std::vector<std::byte> plain = Pattern(blocks * kBlockSize);
    std::string key_bytes = *base::HexDecode(key_hex);
    uint64_t first_unit = lba * (kBlockSize / unit_bytes);
    for (size_t offset = 0; offset < plain.size(); offset += unit_bytes) {
      std::vector<std::byte> expected = Expected(
          cipher, key_bytes, tweak(first_unit + offset / unit_bytes), &plain[offset], unit_bytes);
      ASSERT_EQ(std::memcmp(expected.data(), &medium_[lba * kBlockSize + offset], unit_bytes), 0)
          << "at " << offset;
    }
  }

  std::vector<std::byte> medium_ = std::vector<std::byte>(kBlocks * kBlockSize);
};

TEST_F(CryptoTest, XtsWithTheLba) {
  Open(Params(Cipher::kAesXts, TweakMode::kSimpleLba));
  RoundTrip(3, 130);
  ExpectOnMedium(3, 130, kBlockSize, EVP_aes_128_xts(), std::string(kKey) + kKey2,
                 [](uint64_t unit) { return LittleEndian(unit, 0); });
}

TEST_F(CryptoTest, XtsWithTheLbaAndItsComplement) {
  Open(Params(Cipher::kAesXts, TweakMode::kJoinNegLbaWithLba));
  RoundTrip(7, 5);
  ExpectOnMedium(7, 5, kBlockSize, EVP_aes_128_xts(), std::string(kKey) + kKey2,
                 [](uint64_t unit) { return LittleEndian(unit, ~unit & 0x7fffffffffffffff); });
}

TEST_F(CryptoTest, XtsBySectors) {
  Open(Params(Cipher::kAesXts, TweakMode::kIncr512FullLba));
  RoundTrip(9, 4);
  ExpectOnMedium(9, 4, 512, EVP_aes_128_xts(), std::string(kKey) + kKey2,
                 [](uint64_t unit) { return LittleEndian(unit, 0); });
}

TEST_F(CryptoTest, XtsBySectorsInTheUpperHalf) {
  Open(Params(Cipher::kAesXts, TweakMode::kIncr512UpperLba));
  RoundTrip(9, 4);
  ExpectOnMedium(9, 4, 512, EVP_aes_128_xts(), std::string(kKey) + kKey2,
                 [](uint64_t unit) { return LittleEndian(0, unit); });
}

TEST_F(CryptoTest, XtsWith256BitKeys) {
  std::string key = std::string(kKey) + kKey2;
  std::string key2 = std::string(kKey2) + kKey;
  Open(Params(Cipher::kAesXts, TweakMode::kSimpleLba, key.c_str(), key2.c_str()));
  RoundTrip(1, 2);
  ExpectOnMedium(1, 2, kBlockSize, EVP_aes_256_xts(), key + key2,
                 [](uint64_t unit) { return LittleEndian(unit, 0); });
}

TEST_F(CryptoTest, Cbc) {
  Open(Params(Cipher::kAesCbc, TweakMode::kSimpleLba));
  RoundTrip(2, 3);
  ExpectOnMedium(2, 3, kBlockSize, EVP_aes_128_cbc(), kKey,
                 [](uint64_t unit) { return LittleEndian(unit, 0); });
}

TEST_F(CryptoTest, ZeroesAreWrittenEncrypted) {
  Open(Params(Cipher::kAesXts, TweakMode::kSimpleLba));
  RoundTrip(0, 4);
  TestIo zeroes(IoType::kWriteZeroes, 0, 0, kBlockSize);
  zeroes.block_count = 4;
  EXPECT_EQ(RunIo(*channel_, zeroes), IoStatus::kOk);
  EXPECT_NE(medium_[0], medium_[1]);
  TestIo compare(IoType::kCompare, 0, 4, kBlockSize);
  EXPECT_EQ(RunIo(*channel_, compare), IoStatus::kOk);
}

TEST_F(CryptoTest, IsReportedAsInSpdk) {
  Open(Params(Cipher::kAesXts, TweakMode::kSimpleLba));
  const bdev::Bdev& bdev = channel_->bdev();
  EXPECT_EQ(bdev.info().uuid.ToString(), "7ae28f69-d85b-5017-a4a9-bc79104c84d1");
  EXPECT_FALSE(bdev.Supports(IoType::kCompare));
  std::vector<bdev::ConfigCall> calls;
  bdev.SaveConfig(calls);
  for (const auto& [name, value] : calls.at(0).params) {
    EXPECT_THAT(name, testing::AnyOf("base_bdev_name", "name", "key_name"));
  }
}

TEST_F(CryptoTest, AKeyInUseOutlivesItsDestruction) {
  Open(Params(Cipher::kAesXts, TweakMode::kSimpleLba));
  EXPECT_EQ(module_.keys().Destroy("k0"), 0);
  EXPECT_EQ(module_.keys().Destroy("k0"), ENOENT);
  RoundTrip(0, 1);
  channel_.reset();
  channel_ = descriptor_->OpenChannel(*reactor_);
  RoundTrip(0, 1);
}

TEST_F(CryptoTest, TheNameOfADestroyedKeyIsTakenWhileABdevUsesTheKey) {
  const CryptoKey::Params params = Params(Cipher::kAesXts, TweakMode::kSimpleLba);
  Open(params);
  EXPECT_EQ(module_.keys().Destroy("k0"), 0);
  EXPECT_EQ(module_.keys().Create(params), EEXIST);
  EXPECT_EQ(module_.keys().Find("k0"), nullptr);
  channel_.reset();
  descriptor_.reset();
  bool deleted = false;
  ASSERT_EQ(module_.Delete("Crypt", [&] { deleted = true; }), 0);
  ASSERT_TRUE(reactor_->RunUntil([&] { return deleted; }, seconds(10)));
  EXPECT_EQ(module_.keys().Create(params), 0);
}

TEST(KeyStoreTest, ChecksKeys) {
  KeyStore keys;
  auto create = [&](const char* name, Cipher cipher, const char* key, const char* key2) {
    return keys.Create({.name = name, .cipher = cipher, .key = key, .key2 = key2});
  };
  EXPECT_EQ(create("a", Cipher::kAesXts, kKey, kKey2), 0);
  EXPECT_EQ(create("a", Cipher::kAesXts, kKey, kKey2), EEXIST);
  EXPECT_EQ(create("b", Cipher::kAesXts, kKey, kKey), EINVAL);
  EXPECT_EQ(create("b", Cipher::kAesXts, kKey, ""), EINVAL);
  EXPECT_EQ(create("b", Cipher::kAesXts, "xyz", kKey2), EINVAL);
  EXPECT_EQ(create("b", Cipher::kAesXts, "1234", "5678"), EINVAL);
  EXPECT_EQ(create("b", Cipher::kAesXts, "", ""), EINVAL);
  EXPECT_EQ(create("b", Cipher::kAesCbc, kKey, kKey2), EINVAL);
  EXPECT_EQ(create("b", Cipher::kAesCbc, kKey, ""), 0);
  EXPECT_EQ(keys.Find("a")->key(), kKey);
  EXPECT_EQ(keys.Find("none"), nullptr);
}

}  // namespace
}  // namespace sma::storage_target::bdev_crypto
