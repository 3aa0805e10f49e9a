// SPDX-License-Identifier: Apache-2.0

#include "agent/crypto/volume_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/crypto/nop_engine.h"

namespace sma::crypto {
namespace {

VolumeCryptoParameters Request(const std::string& key, const std::string& key2) {
  VolumeCryptoParameters params;
  params.set_key(key);
  params.set_key2(key2);
  params.set_cipher(VolumeCryptoParameters::AES_XTS);
  params.set_tweak_mode(VolumeCryptoParameters::TWEAK_MODE_INCR_512_FULL_LBA);
  return params;
}

TEST(VolumeKeysTest, DigitsAreComparedIgnoringCase) {
  auto upper = VolumeKeys::FromRequest(Request("00AbCD", "EF"));
  auto lower = VolumeKeys::FromRequest(Request("00abcd", "ef"));
  ASSERT_TRUE(upper.ok() && lower.ok());
  EXPECT_EQ(upper->secret(), lower->secret());
  EXPECT_EQ(upper->params().key, "00abcd");
  EXPECT_EQ(upper->params().key2, "ef");
  EXPECT_EQ(upper->params().cipher, VolumeCryptoParameters::AES_XTS);
}

TEST(VolumeKeysTest, TheRecordContainsNoKeys) {
  auto keys = VolumeKeys::FromRequest(Request("0011", "2233"));
  ASSERT_TRUE(keys.ok());
  VolumeCryptoParameters kept = keys->WithoutKeys();
  EXPECT_TRUE(kept.key().empty());
  EXPECT_TRUE(kept.key2().empty());
  EXPECT_EQ(kept.cipher(), VolumeCryptoParameters::AES_XTS);
  auto back = VolumeKeys::FromSecret(kept, keys->secret());
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->params().key, "0011");
  EXPECT_EQ(back->params().key2, "2233");
  EXPECT_EQ(back->params().tweak_mode, VolumeCryptoParameters::TWEAK_MODE_INCR_512_FULL_LBA);
  EXPECT_EQ(VolumeKeys::FromSecret(kept, "0011").status().code(), absl::StatusCode::kDataLoss);
}

TEST(VolumeKeysTest, RefusesInvalidKeysWithoutShowingThem) {
  for (const auto& params :
       {Request("", ""), Request("", "00"), Request("0", ""), Request("secretss", ""),
        Request("00", "secretss"), Request("00", "0"), Request(std::string(1026, '0'), "")}) {
    absl::Status status = VolumeKeys::FromRequest(params).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), testing::Not(testing::HasSubstr("secret")));
  }
  VolumeCryptoParameters unknown = Request("00", "");
  unknown.set_cipher(static_cast<VolumeCryptoParameters::Cipher>(7));
  EXPECT_FALSE(VolumeKeys::FromRequest(unknown).ok());
  unknown = Request("00", "");
  unknown.set_tweak_mode(static_cast<VolumeCryptoParameters::TweakMode>(-1));
  EXPECT_FALSE(VolumeKeys::FromRequest(unknown).ok());
}

TEST(NopEngineTest, EncryptsNothing) {
  NopEngine engine;
  base::Context context = base::Context::Background();
  CryptoParams params{.key = "00"};
  EXPECT_EQ(engine.Check(params).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(engine.Setup(context, {}, params).ok());
  EXPECT_FALSE(engine.Verify(context, {}, &params).ok());
  EXPECT_TRUE(engine.Verify(context, {}, nullptr).ok());
  EXPECT_TRUE(engine.Cleanup(context, {}).ok());
  EXPECT_EQ(*engine.GetCryptoBdev(context, {}), std::nullopt);
}

}  // namespace
}  // namespace sma::crypto
