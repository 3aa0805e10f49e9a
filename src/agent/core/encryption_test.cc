#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/core/agent_fixture.h"
#include "agent/crypto/bdev_crypto_engine.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr char kKey[] = "1234567890abcdef1234567890abcdef";
constexpr char kKey2[] = "fedcba0987654321fedcba0987654321";
constexpr char kOtherKey[] = "00000000000000000000000000000001";

class EncryptionTest : public AgentFixture {
 protected:
  void SetUp() override {
    engine_ = [this] { return std::make_unique<crypto::BdevCryptoEngine>(target_, ""); };
    sealing_key_ = "0123456789abcdef0123456789ABCDEF";
    AgentFixture::SetUp();
    target_.AddBdev(VolumeUuid(1));
    ASSERT_TRUE(Create(1).ok());
  }
  void TearDown() override {
    AgentFixture::TearDown();
    EXPECT_EQ(target_.keys_destroyed_in_use(), 0u);
  }

  static VolumeCryptoParameters Params(const char* key = kKey, const char* key2 = kKey2) {
    VolumeCryptoParameters params;
    params.set_cipher(VolumeCryptoParameters::AES_XTS);
    params.set_key(key);
    params.set_key2(key2);
    return params;
  }
  absl::Status AttachWith(const VolumeCryptoParameters& params, int volume = 1) {
    AttachVolumeRequest request;
    request.set_device_handle(Handle(1));
    request.mutable_volume()->set_volume_id(Id(volume));
    *request.mutable_volume()->mutable_crypto() = params;
    return core_->agent().AttachVolume(context_, request).status();
  }
  /// What the host sees of the device: the bdevs behind its namespaces.
  std::vector<std::string> Exported() {
    std::vector<std::string> names;
    const jsonrpc::Json subsystem = Subsystem(1);
    if (subsystem.is_null()) return names;
    for (const auto& ns : subsystem["namespaces"]) names.push_back(ns["bdev_name"]);
    return names;
  }
  std::string CryptoName(int volume = 1) {
    return crypto::BdevCryptoEngine::NameOf(*base::Uuid::Parse(VolumeUuid(volume)));
  }
  size_t KeyCount() { return target_.Operator("accel_crypto_keys_get")->size(); }
  std::string KeyInUse() {
    auto keys = target_.Operator("accel_crypto_keys_get");
    return keys->size() == 1 ? (*keys)[0]["key"].get<std::string>() : "";
  }
  admin::v1::Volume Shown(int volume = 1) {
    admin::v1::GetVolumeRequest request;
    request.set_volume_id(Id(volume));
    auto shown = core_->admin().GetVolume(context_, request);
    EXPECT_TRUE(shown.ok()) << shown.status();
    return shown.ok() ? *shown : admin::v1::Volume();
  }
  void RestartTarget() {
    target_.Restart();
    target_.AddBdev(VolumeUuid(1));
  }
  void RestartAgent() {
    Crash();
    Open();
  }
};

TEST_F(EncryptionTest, TheDeviceExportsTheCryptoBdevUnderTheVolumesId) {
  const std::string before = target_.Dump();
  ASSERT_TRUE(AttachWith(Params()).ok());
  EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
  EXPECT_THAT(Namespaces(1), ElementsAre(VolumeUuid(1)));
  EXPECT_EQ(Shown().encryption().engine(), "bdev_crypto");
  EXPECT_EQ(Shown().encryption().cipher(), VolumeCryptoParameters::AES_XTS);
  EXPECT_EQ(Shown().state(), admin::v1::STATE_READY);
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(KeyCount(), 0u);
}

TEST_F(EncryptionTest, CreateDeviceEncryptsItsVolume) {
  ASSERT_TRUE(Delete(Handle(1)).ok());
  CreateDeviceRequest request = CreateRequest(1, 1);
  *request.mutable_volume()->mutable_crypto() = Params();
  target_.ResetCounts();
  ASSERT_TRUE(Create(request).ok());
  EXPECT_EQ(target_.round_trips(), 2u);  // what is there, and then all else
  EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
  target_.ResetCounts();
  ASSERT_TRUE(Create(request).ok()) << "again";
  EXPECT_EQ(target_.round_trips(), 1u);
  *request.mutable_volume()->mutable_crypto() = Params(kOtherKey);
  EXPECT_EQ(Create(request).code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
  ASSERT_TRUE(Delete(Handle(1)).ok());
  EXPECT_EQ(KeyCount(), 0u);
}

TEST_F(EncryptionTest, AttachIsTwoRoundTrips) {
  for (auto mode : {VolumeCryptoParameters::TWEAK_MODE_SIMPLE_LBA,
                    VolumeCryptoParameters::TWEAK_MODE_INCR_512_UPPER_LBA}) {
    VolumeCryptoParameters params = Params();
    params.set_tweak_mode(mode);
    target_.ResetCounts();
    ASSERT_TRUE(AttachWith(params).ok());
    EXPECT_EQ(target_.round_trips(), 2u);  // what is there, and then all else
    EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
    target_.ResetCounts();
    ASSERT_TRUE(AttachWith(params).ok());
    EXPECT_EQ(target_.round_trips(), 1u);  // the device, which has the layer
    ASSERT_TRUE(Detach(Handle(1), 1).ok());
  }
}

TEST_F(EncryptionTest, Defect6_TheKeyOfAnEarlierTimeIsNotUsed) {
  ASSERT_TRUE(AttachWith(Params(kOtherKey)).ok());
  Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(1)}});
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  target_.AddBdev(VolumeUuid(1));
  ASSERT_TRUE(AttachWith(Params()).ok());
  EXPECT_EQ(KeyInUse(), kKey);
}

TEST_F(EncryptionTest, Defect6_TheCryptoBdevGoesAfterTheDeviceAndBeforeItsKey) {
  VolumeCryptoParameters params = Params();
  params.set_tweak_mode(VolumeCryptoParameters::TWEAK_MODE_INCR_512_FULL_LBA);
  ASSERT_TRUE(AttachWith(params).ok());
  target_.ResetCounts();
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  EXPECT_THAT(target_.methods(),
              ElementsAre("nvmf_get_subsystems", "bdev_get_bdevs", "nvmf_subsystem_remove_ns",
                          "bdev_get_bdevs", "bdev_crypto_delete", "bdev_crypto_delete",
                          "bdev_get_bdevs", "accel_crypto_key_destroy"));
  EXPECT_EQ(KeyCount(), 0u);
}

TEST_F(EncryptionTest, Defect7_AttachedAgainAfterARestartOfTheAgent) {
  for (const char* sealing_key : {"", "0123456789abcdef0123456789ABCDEF"}) {
    sealing_key_ = sealing_key;
    RestartAgent();
    ASSERT_TRUE(AttachWith(Params()).ok());
    const std::string before = target_.Dump();
    RestartAgent();
    EXPECT_EQ(Shown().state(), admin::v1::STATE_READY);
    EXPECT_TRUE(AttachWith(Params("1234567890ABCDEF1234567890ABCDEF")).ok()) << "upper case";
    EXPECT_EQ(AttachWith(Params(kOtherKey)).code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(target_.Dump(), before);
    ASSERT_TRUE(Detach(Handle(1), 1).ok());
  }
}

TEST_F(EncryptionTest, Defect12_OtherParametersThanInUseAreRefused) {
  ASSERT_TRUE(AttachWith(Params()).ok());
  const std::string before = target_.Dump();
  VolumeCryptoParameters cipher = Params(kKey, "");
  cipher.set_cipher(VolumeCryptoParameters::AES_CBC);
  VolumeCryptoParameters mode = Params();
  mode.set_tweak_mode(VolumeCryptoParameters::TWEAK_MODE_INCR_512_FULL_LBA);
  for (const auto& params :
       {Params(kOtherKey), Params(kKey, kOtherKey), Params(kKey, ""), cipher, mode}) {
    absl::Status status = AttachWith(params);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("1234567890")));
  }
  EXPECT_EQ(Attach(Handle(1), 1).code(), StatusCode::kInvalidArgument) << "in clear";
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(EncryptionTest, Defect12_AClearVolumeIsNotTakenForAnEncryptedOne) {
  ASSERT_TRUE(Attach(Handle(1), 1).ok());
  const std::string before = target_.Dump();
  EXPECT_EQ(AttachWith(Params()).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(EncryptionTest, AVolumeThatIsNotThereLeavesNothing) {
  const std::string before = target_.Dump();
  EXPECT_EQ(AttachWith(Params(), 2).code(), StatusCode::kNotFound);
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(KeyCount(), 0u);
}

TEST_F(EncryptionTest, ComesBackWithTheTargetBySealedKeys) {
  ASSERT_TRUE(AttachWith(Params()).ok());
  RestartTarget();
  WaitFor([this] { return Exported() == std::vector{CryptoName()}; });
  EXPECT_EQ(KeyInUse(), kKey);
  WaitFor([this] { return Shown().state() == admin::v1::STATE_READY; });
}

TEST_F(EncryptionTest, WithoutASealingKeyItNeedsItsKeyAgain) {
  sealing_key_.clear();
  RestartAgent();
  ASSERT_TRUE(AttachWith(Params()).ok());
  RestartTarget();
  WaitFor([this] { return Shown().state() == admin::v1::STATE_KEY_NEEDED; });
  EXPECT_THAT(Exported(), IsEmpty()) << "never in clear";
  EXPECT_EQ(AttachWith(Params(kOtherKey)).code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Exported(), IsEmpty());
  ASSERT_TRUE(AttachWith(Params()).ok());
  EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
  EXPECT_EQ(KeyInUse(), kKey);
  WaitFor([this] { return Shown().state() == admin::v1::STATE_READY; });
}

TEST_F(EncryptionTest, ASealingKeyThatIsGivenLaterSealsWithTheNextAttach) {
  sealing_key_.clear();
  RestartAgent();
  ASSERT_TRUE(AttachWith(Params()).ok());
  sealing_key_ = std::string(32, 'x');
  RestartAgent();
  ASSERT_TRUE(AttachWith(Params()).ok());
  RestartTarget();
  WaitFor([this] { return Exported() == std::vector{CryptoName()}; });
}

TEST_F(EncryptionTest, BaseLostAndBack) {
  ASSERT_TRUE(AttachWith(Params()).ok());
  SetQosRequest limits;
  limits.set_device_handle(Handle(1));
  limits.set_volume_id(Id(1));
  limits.mutable_maximum()->set_rw_iops(5);
  ASSERT_TRUE(core_->agent().SetQos(context_, limits).ok());
  Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(1)}});
  EXPECT_THAT(Exported(), IsEmpty());
  target_.AddBdev(VolumeUuid(1));
  ASSERT_TRUE(AttachWith(Params()).ok());
  EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
  EXPECT_EQ(KeyInUse(), kKey);
  auto bdev = target_.Operator("bdev_get_bdevs", {{"name", CryptoName()}});
  EXPECT_EQ((*bdev)[0]["assigned_rate_limits"]["rw_ios_per_sec"], 5000);
}

TEST_F(EncryptionTest, Defect26_LimitsAreThoseOfWhatTheHostSeesAndFollowTheVolume) {
  ASSERT_TRUE(AttachWith(Params()).ok());
  SetQosRequest request;
  request.set_device_handle(Handle(1));
  request.set_volume_id(Id(1));
  request.mutable_maximum()->set_rw_iops(5);
  ASSERT_TRUE(core_->agent().SetQos(context_, request).ok());
  auto limit = [this](const std::string& bdev) -> int {
    auto found = target_.Operator("bdev_get_bdevs", {{"name", bdev}});
    return found.ok() ? (*found)[0]["assigned_rate_limits"]["rw_ios_per_sec"].get<int>() : -1;
  };
  EXPECT_EQ(limit(CryptoName()), 5000);
  EXPECT_EQ(limit("null-" + VolumeUuid(1)), 0) << "one limiter only";
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  ASSERT_TRUE(AttachWith(Params()).ok());
  EXPECT_EQ(limit(CryptoName()), 5000);
  RestartTarget();
  WaitFor([&] { return limit(CryptoName()) == 5000; });
  EXPECT_EQ(limit("null-" + VolumeUuid(1)), 0);
}

TEST_F(EncryptionTest, AnotherAgentsEncryptedVolumeIsTakenOverWithItsKeysOnly) {
  Operator("bdev_crypto_create", {{"name", "theirs"},
                                  {"base_bdev_name", VolumeUuid(1)},
                                  {"cipher", "AES_XTS"},
                                  {"key", kKey},
                                  {"key2", kKey2}});
  Operator("nvmf_subsystem_add_ns",
           {{"nqn", Nqn(1)}, {"namespace", {{"bdev_name", "theirs"}, {"uuid", VolumeUuid(1)}}}});
  Crash();
  *disk_ = record::MemoryDisk();
  Open();
  const std::string before = target_.Dump();
  CreateDeviceRequest request = CreateRequest(1, 1);
  EXPECT_EQ(Create(request).code(), StatusCode::kInvalidArgument) << "in clear";
  *request.mutable_volume()->mutable_crypto() = Params(kOtherKey);
  EXPECT_EQ(Create(request).code(), StatusCode::kInvalidArgument);
  *request.mutable_volume()->mutable_crypto() = Params();
  ASSERT_TRUE(Create(request).ok());
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(Shown().bdev(), "theirs");
  EXPECT_TRUE(AttachWith(Params()).ok());
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  EXPECT_EQ(KeyCount(), 0u);
  ASSERT_TRUE(AttachWith(Params()).ok());
  EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
}

}  // namespace
}  // namespace sma::core
