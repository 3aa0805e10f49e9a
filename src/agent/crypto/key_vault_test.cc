// SPDX-License-Identifier: Apache-2.0

#include "agent/crypto/key_vault.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "agent/crypto/sealing_key.h"
#include "base/hex.h"

namespace sma::crypto {
namespace {

using absl::StatusCode;
using testing::HasSubstr;
using testing::Not;

constexpr char kSecret[] = "00112233445566778899aabbccddeeff:ffeeddccbbaa99887766554433221100";
const std::string kSealingKey = "0123456789abcdef0123456789ABCDEF";

base::Uuid Id(int number) {
  return *base::Uuid::Parse("00000000-1111-4222-8333-00000000000" + std::to_string(number));
}

KeyVault Vault(const std::string& key = kSealingKey) { return KeyVault(base::Secret::Copy(key)); }

TEST(KeyVaultTest, RecoversSealedSecrets) {
  KeyVault vault = Vault();
  std::string kept = vault.Keep(Id(1), kSecret);
  EXPECT_THAT(kept, Not(HasSubstr("0011")));
  auto secret = Vault().Recover(Id(1), kept);
  ASSERT_TRUE(secret.ok()) << secret.status();
  EXPECT_EQ(secret->bytes(), kSecret);
  EXPECT_NE(vault.Keep(Id(1), kSecret), kept) << "nonce and salt must differ each time";
}

TEST(KeyVaultTest, DistinguishesSecretsWithAndWithoutASealingKey) {
  for (const KeyVault& vault : {Vault(), KeyVault(std::nullopt)}) {
    std::string kept = vault.Keep(Id(1), kSecret);
    EXPECT_TRUE(KeyVault::Matches(Id(1), kept, kSecret));
    EXPECT_FALSE(KeyVault::Matches(Id(1), kept, std::string(kSecret) + "0"));
    EXPECT_FALSE(KeyVault::Matches(Id(1), kept, ""));
    EXPECT_FALSE(KeyVault::Matches(Id(2), kept, kSecret));
    EXPECT_FALSE(KeyVault::Matches(Id(1), "", kSecret));
  }
}

TEST(KeyVaultTest, RecoversNothingWithoutTheSealingKey) {
  std::string sealed = Vault().Keep(Id(1), kSecret);
  std::string unsealed = KeyVault(std::nullopt).Keep(Id(1), kSecret);
  EXPECT_EQ(KeyVault(std::nullopt).Recover(Id(1), sealed).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(Vault(std::string(32, 'x')).Recover(Id(1), sealed).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(Vault().Recover(Id(1), unsealed).status().code(), StatusCode::kFailedPrecondition);
}

TEST(KeyVaultTest, EveryChangedByteIsDetected) {
  const std::string kept = Vault().Keep(Id(1), kSecret);
  for (size_t i = 0; i < kept.size(); ++i) {
    std::string damaged = kept;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_FALSE(Vault().Recover(Id(1), damaged).ok()) << i;
    EXPECT_FALSE(Vault().Recover(Id(1), kept.substr(0, i)).ok()) << i;
  }
  EXPECT_EQ(Vault().Recover(Id(2), kept).status().code(), StatusCode::kDataLoss);
}

class SealingKeyTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/sealing-key-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  void TearDown() override { std::system(("rm -r " + folder_).c_str()); }

  std::string Write(const std::string& text, mode_t mode = 0600) {
    std::string path = folder_ + "/key";
    std::ofstream(path, std::ios::binary) << text;
    ::chmod(path.c_str(), mode);
    return path;
  }

  std::string folder_;
};

TEST_F(SealingKeyTest, AcceptsBytesAndHexDigits) {
  for (const std::string& text : {kSealingKey, kSealingKey + "\n", base::HexEncode(kSealingKey),
                                  base::HexEncode(kSealingKey) + "\n"}) {
    auto key = SealingKeyFromFile(Write(text));
    ASSERT_TRUE(key.ok()) << key.status();
    EXPECT_EQ(key->bytes(), kSealingKey);
  }
}

TEST_F(SealingKeyTest, RefusesOtherFilesWithoutShowingTheirContents) {
  for (const std::string& text : {std::string(), std::string("short"), kSealingKey + "xy",
                                  std::string(64, 'g'), base::HexEncode(kSealingKey) + "0011"}) {
    absl::Status status = SealingKeyFromFile(Write(text)).status();
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << text;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("0123")));
  }
  EXPECT_THAT(std::string(SealingKeyFromFile(Write(kSealingKey, 0644)).status().message()),
              HasSubstr("every user"));
  EXPECT_THAT(std::string(SealingKeyFromFile(folder_ + "/none").status().message()),
              HasSubstr("/none: No such file"));
}

TEST_F(SealingKeyTest, RefusesAFileThatOthersMayChange) {
  auto refusal = [](const std::string& path) {
    absl::Status status = SealingKeyFromFile(path).status();
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << path;
    return std::string(status.message());
  };
  EXPECT_THAT(refusal(Write(kSealingKey, 0660)), HasSubstr("may write to the file"));
  EXPECT_THAT(refusal(Write(kSealingKey, 0602)), HasSubstr("may write to the file"));
  const std::string path = Write(kSealingKey, 0640);
  EXPECT_TRUE(SealingKeyFromFile(path).ok());
  for (mode_t mode : {0770, 0707}) {
    ::chmod(folder_.c_str(), mode);
    EXPECT_THAT(refusal(path), HasSubstr("may write to the folder " + folder_));
  }
  ::chmod(folder_.c_str(), 01777);  // sticky bit: users may replace only their own files
  EXPECT_TRUE(SealingKeyFromFile(path).ok());
  // The folder that contains a symbolic link is checked as well, and so are the parents of a
  // folder.
  ::chmod(folder_.c_str(), 0700);
  ASSERT_EQ(::mkdir((folder_ + "/links").c_str(), 0700), 0);
  ASSERT_EQ(::symlink("../key", (folder_ + "/links/key").c_str()), 0);
  EXPECT_TRUE(SealingKeyFromFile(folder_ + "/links/key").ok());
  ::chmod((folder_ + "/links").c_str(), 0777);
  EXPECT_THAT(refusal(folder_ + "/links/key"), HasSubstr("folder " + folder_ + "/links"));
  ::chmod((folder_ + "/links").c_str(), 0700);
  ::chmod(folder_.c_str(), 0777);
  EXPECT_THAT(refusal(folder_ + "/links/key"), HasSubstr("folder " + folder_));
  ::chmod(folder_.c_str(), 0700);
  if (::geteuid() != 0) return;
  ASSERT_EQ(::chown(path.c_str(), 65534, 65534), 0);
  EXPECT_THAT(refusal(path), HasSubstr("belongs to user 65534"));
  ASSERT_EQ(::chown(path.c_str(), 0, 0), 0);
  ASSERT_EQ(::chown(folder_.c_str(), 65534, 65534), 0);
  EXPECT_THAT(refusal(path), HasSubstr("belongs to user 65534"));
}

TEST_F(SealingKeyTest, ReadsACredentialAndTheEnvironment) {
  Write(kSealingKey);
  ::setenv("CREDENTIALS_DIRECTORY", folder_.c_str(), 1);
  EXPECT_EQ(SealingKeyFromCredential("key")->bytes(), kSealingKey);
  ::unsetenv("CREDENTIALS_DIRECTORY");
  EXPECT_FALSE(SealingKeyFromCredential("key").ok());

  ::setenv("CRYPTO_TEST_KEY", base::HexEncode(kSealingKey).c_str(), 1);
  EXPECT_EQ(SealingKeyFromEnvironment("CRYPTO_TEST_KEY")->bytes(), kSealingKey);
  EXPECT_STREQ(std::getenv("CRYPTO_TEST_KEY"), "");
  ::unsetenv("CRYPTO_TEST_KEY");
  EXPECT_FALSE(SealingKeyFromEnvironment("CRYPTO_TEST_KEY").ok());
}

}  // namespace
}  // namespace sma::crypto
