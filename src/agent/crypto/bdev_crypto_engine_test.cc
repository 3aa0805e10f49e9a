// SPDX-License-Identifier: Apache-2.0

#include "agent/crypto/bdev_crypto_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/spdk/testing/fake_target.h"

namespace sma::crypto {
namespace {

using absl::StatusCode;
using jsonrpc::Json;
using spdk::Fault;
using testing::HasSubstr;
using testing::Not;

constexpr char kUuid[] = "00000001-1111-4222-8333-444444444444";
constexpr char kBase[] = "null-00000001-1111-4222-8333-444444444444";
constexpr char kName[] = "sma-crypto-00000001-1111-4222-8333-444444444444";
constexpr char kKey[] = "1234567890abcdef1234567890abcdef";
constexpr char kKey2[] = "fedcba0987654321fedcba0987654321";
constexpr char kOtherKey[] = "00000000000000000000000000000001";
constexpr auto kSectors = VolumeCryptoParameters::TWEAK_MODE_INCR_512_FULL_LBA;

class BdevCryptoEngineTest : public testing::TestWithParam<VolumeCryptoParameters::TweakMode> {
 protected:
  void SetUp() override { target_.AddBdev(kUuid); }
  void TearDown() override { EXPECT_EQ(target_.keys_destroyed_in_use(), 0u); }

  static CryptoParams Params(const char* key = kKey, const char* key2 = kKey2) {
    return {.cipher = VolumeCryptoParameters::AES_XTS, .key = key, .key2 = key2};
  }
  CryptoParams ModeParams(const char* key = kKey) const {
    CryptoParams params = Params(key);
    params.tweak_mode = GetParam();
    return params;
  }
  Outcome Encrypt(const CryptoParams& params) {
    OutcomeOr<std::string> name = engine_.Setup(context_, volume_, params);
    if (name.ok()) {
      EXPECT_EQ(*name, kName);
    }
    return name.outcome();
  }
  absl::Status Verify(const CryptoParams& params) {
    return engine_.Verify(context_, volume_, &params);
  }
  void Operator(const char* method, Json params) {
    auto answer = target_.Operator(method, std::move(params));
    ASSERT_TRUE(answer.ok()) << method << answer.status();
  }
  void LoseBase() { Operator("bdev_null_delete", {{"name", kBase}}); }
  /// Returns the key with which the volume is encrypted; empty if it is not encrypted.
  std::string KeyInUse() {
    auto bdev = target_.Operator("bdev_get_bdevs", {{"name", kName}});
    if (!bdev.ok()) return "";
    auto key =
        target_.Operator("accel_crypto_keys_get",
                         {{"key_name", (*bdev)[0]["driver_specific"]["crypto"]["key_name"]}});
    return key.ok() ? (*key)[0]["key"].get<std::string>() : "";
  }
  size_t KeyCount() { return target_.Operator("accel_crypto_keys_get")->size(); }

  spdk::FakeTarget target_;
  base::Context context_ = base::Context::Background();
  BdevCryptoEngine engine_{target_, ""};
  CryptoVolume volume_{.id = *base::Uuid::Parse(kUuid), .bdev_name = kUuid};
};

using ModesTest = BdevCryptoEngineTest;
INSTANTIATE_TEST_SUITE_P(Modes, ModesTest,
                         testing::Values(VolumeCryptoParameters::TWEAK_MODE_SIMPLE_LBA, kSectors));
using PlainTest = BdevCryptoEngineTest;
INSTANTIATE_TEST_SUITE_P(Plain, PlainTest,
                         testing::Values(VolumeCryptoParameters::TWEAK_MODE_SIMPLE_LBA));

TEST_P(ModesTest, SetupTakesOneRoundTripAndCleanupRemovesAll) {
  const std::string before = target_.Dump();
  target_.ResetCounts();
  ASSERT_TRUE(Encrypt(ModeParams()).ok());
  EXPECT_EQ(target_.round_trips(), 1u);
  EXPECT_EQ(KeyInUse(), kKey);
  EXPECT_EQ(*engine_.GetCryptoBdev(context_, volume_), kName);
  EXPECT_TRUE(Verify(ModeParams()).ok());
  EXPECT_TRUE(Encrypt(ModeParams()).ok()) << "again";
  EXPECT_TRUE(engine_.Cleanup(context_, volume_).ok());
  EXPECT_TRUE(engine_.Cleanup(context_, volume_).ok()) << "again";
  EXPECT_EQ(*engine_.GetCryptoBdev(context_, volume_), std::nullopt);
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(KeyCount(), 0u);
}

TEST_P(ModesTest, Defect6_AnOldCryptoBdevThatReappearsIsRecreated) {
  ASSERT_TRUE(Encrypt(ModeParams(kOtherKey)).ok());
  LoseBase();
  target_.AddBdev(kUuid);
  ASSERT_TRUE(Encrypt(ModeParams()).ok());
  EXPECT_EQ(KeyInUse(), kKey);
  EXPECT_EQ(KeyCount(), 1u);
}

TEST_P(ModesTest, Defect6_AnOldCryptoBdevThatExistsIsRecreated) {
  // A crypto bdev that was requested by the base's name reappears together with the base.
  volume_.bdev_name = kBase;
  ASSERT_TRUE(Encrypt(ModeParams(kOtherKey)).ok());
  LoseBase();
  target_.AddBdev(kUuid);
  EXPECT_EQ(KeyInUse(), kOtherKey);
  ASSERT_TRUE(Encrypt(ModeParams()).ok());
  EXPECT_EQ(KeyInUse(), kKey);
}

TEST_P(ModesTest, AnOldCryptoBdevWithTheSameKeyIsUsed) {
  ASSERT_TRUE(Encrypt(ModeParams()).ok());
  LoseBase();
  EXPECT_TRUE(engine_.Cleanup(context_, volume_).ok());
  target_.AddBdev(kUuid);
  ASSERT_TRUE(Encrypt(ModeParams()).ok());
  EXPECT_EQ(KeyInUse(), kKey);
}

TEST_P(ModesTest, ACryptoBdevInUseIsNotChanged) {
  ASSERT_TRUE(Encrypt(ModeParams()).ok());
  Operator("nvmf_create_transport", {{"trtype", "TCP"}});
  Operator("nvmf_create_subsystem", {{"nqn", "nqn.2016-06.io.spdk:cnode1"}});
  Operator("nvmf_subsystem_add_ns",
           {{"nqn", "nqn.2016-06.io.spdk:cnode1"}, {"namespace", {{"bdev_name", kName}}}});
  const std::string before = target_.Dump();
  EXPECT_EQ(Encrypt(ModeParams(kOtherKey)).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(KeyInUse(), kKey);
}

TEST_P(PlainTest, Defect12_DifferentParametersAreRefused) {
  ASSERT_TRUE(Encrypt(Params()).ok());
  auto message = [&](const CryptoParams& params) {
    absl::Status status = Verify(params);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("1234")));
    return std::string(status.message());
  };
  EXPECT_THAT(message(Params(kOtherKey)), HasSubstr(".key:"));
  EXPECT_THAT(message(Params(kKey, kOtherKey)), HasSubstr(".key2:"));
  EXPECT_THAT(message(Params(kKey, "")), HasSubstr(".key2:"));
  CryptoParams other = Params();
  other.cipher = VolumeCryptoParameters::AES_CBC;
  message(other);
  other = Params();
  other.tweak_mode = kSectors;
  message(other);
  EXPECT_EQ(engine_.Verify(context_, volume_, nullptr).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(Verify(Params()).ok());
}

TEST_P(PlainTest, Defect12_AnUnencryptedVolumeIsNotTakenForAnEncryptedOne) {
  EXPECT_TRUE(engine_.Verify(context_, volume_, nullptr).ok());
  EXPECT_EQ(Verify(Params()).code(), StatusCode::kInvalidArgument);
  LoseBase();
  EXPECT_EQ(Verify(Params()).code(), StatusCode::kNotFound);
}

TEST_P(PlainTest, Defect12_KeysThatDoNotFitTheCipherAreRefused) {
  EXPECT_TRUE(engine_.Check(Params()).ok());
  const std::string longer = std::string(kKey) + kKey;
  EXPECT_EQ(engine_.Check(Params(kKey, "")).message(),
            "volume.crypto.key2: missing, AES_XTS needs two keys");
  EXPECT_FALSE(engine_.Check(Params(kKey, kKey)).ok());
  EXPECT_FALSE(engine_.Check(Params(kKey, longer.c_str())).ok());
  EXPECT_FALSE(engine_.Check(Params("12", "34")).ok());
  CryptoParams cbc{.cipher = VolumeCryptoParameters::AES_CBC, .key = longer};
  EXPECT_TRUE(engine_.Check(cbc).ok());
  cbc.key2 = kKey;
  EXPECT_FALSE(engine_.Check(cbc).ok());
}

TEST_P(PlainTest, KeysAreEqualInEitherCase) {
  Operator("bdev_crypto_create", {{"name", kName},
                                  {"base_bdev_name", kUuid},
                                  {"cipher", "AES_XTS"},
                                  {"key", "1234567890ABCDEF1234567890ABCDEF"},
                                  {"key2", "FEDCBA0987654321FEDCBA0987654321"}});
  EXPECT_TRUE(Verify(Params()).ok());
  EXPECT_TRUE(Encrypt(Params()).ok());
}

TEST_P(PlainTest, AnotherAgentsCryptoBdevIsFound) {
  Operator("bdev_crypto_create", {{"name", "theirs"},
                                  {"base_bdev_name", kUuid},
                                  {"cipher", "AES_XTS"},
                                  {"key", kKey},
                                  {"key2", kKey2}});
  EXPECT_EQ(*engine_.GetCryptoBdev(context_, volume_), "theirs");
  EXPECT_TRUE(Verify(Params()).ok());
  EXPECT_EQ(Verify(Params(kOtherKey)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(engine_.Verify(context_, volume_, nullptr).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Encrypt(Params()).code(), StatusCode::kAlreadyExists);
}

TEST_P(ModesTest, CleanupWithoutTheBaseLeavesNothing) {
  LoseBase();
  const std::string before = target_.Dump();
  EXPECT_EQ(Encrypt(ModeParams()).code(), StatusCode::kNotFound);
  EXPECT_EQ(target_.Dump(), before);
  target_.AddBdev(kUuid);
  ASSERT_TRUE(Encrypt(ModeParams(kOtherKey)).ok());
  EXPECT_EQ(KeyInUse(), kOtherKey);
}

// A target keeps the entry of a crypto bdev whose base was removed, with its key. The key is
// destroyed together with it.
TEST_P(ModesTest, TheKeyOfACryptoBdevThatTheTargetKeepsIsNotDestroyedBeforeIt) {
  ASSERT_TRUE(Encrypt(ModeParams()).ok());
  LoseBase();
  ASSERT_TRUE(engine_.Cleanup(context_, volume_).ok());
  target_.AddBdev(kUuid);
  ASSERT_TRUE(engine_.Cleanup(context_, volume_).ok());
  EXPECT_EQ(target_.keys_destroyed_in_use(), 0u);
  // The entry is deleted as well, unless the key is inline, in which case the bdev is only created
  // by a request that contains the key.
  const bool has_own_key = GetParam() == VolumeCryptoParameters::TWEAK_MODE_SIMPLE_LBA;
  EXPECT_EQ(KeyCount(), has_own_key ? 1u : 0u);
  ASSERT_TRUE(Encrypt(ModeParams(kOtherKey)).ok());
  EXPECT_EQ(KeyInUse(), kOtherKey);
}

// Makes each call fail in turn, in every way: the setup then either succeeds or is rolled back, or
// Cleanup() removes what it left behind.
TEST_P(ModesTest, AFailedSetupIsRolledBack) {
  const std::string before = target_.Dump();
  for (Fault fault : {Fault::kRefuse, Fault::kNotSent, Fault::kDropCall, Fault::kLoseAnswer}) {
    for (uint64_t failing = 0; failing < 5; ++failing) {
      target_.ResetCounts();
      target_.SetFaultPlan(
          [=](uint64_t index, const auto&) { return index == failing ? fault : Fault::kNone; });
      const Outcome outcome = Encrypt(ModeParams());
      target_.SetFaultPlan(nullptr);
      if (outcome.ok()) {
        EXPECT_EQ(KeyInUse(), kKey);
      } else if (outcome.is_settled()) {
        EXPECT_EQ(target_.Dump(), before)
            << int(fault) << " " << failing << " " << outcome.message();
        EXPECT_EQ(KeyCount(), 0u) << int(fault) << " " << failing << " " << outcome.message();
      }
      EXPECT_TRUE(Encrypt(ModeParams()).ok());
      EXPECT_TRUE(engine_.Cleanup(context_, volume_).ok());
      EXPECT_EQ(target_.Dump(), before);
      EXPECT_EQ(KeyCount(), 0u);
    }
  }
}

TEST_P(PlainTest, ASetupAfterTheDeadlineIsRolledBack) {
  const std::string before = target_.Dump();
  target_.SetRoundTrip(std::chrono::milliseconds(30));
  base::Context late = base::Context::WithTimeout(std::chrono::milliseconds(10));
  EXPECT_EQ(engine_.Setup(late, volume_, Params()).status().code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(target_.Dump(), before);
}

TEST_P(PlainTest, TheDriverIsSentToTheTarget) {
  BdevCryptoEngine engine(target_, "crypto_aesni_mb");
  std::string told;
  target_.SetFaultPlan([&](uint64_t, const jsonrpc::Request& request) {
    if (request.params.contains("crypto_pmd")) told = request.params["crypto_pmd"];
    return Fault::kNone;
  });
  EXPECT_TRUE(engine.Setup(context_, volume_, Params()).ok());
  EXPECT_EQ(told, "crypto_aesni_mb");
}

}  // namespace
}  // namespace sma::crypto
