// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "agent/core/testing/encryption_fixture.h"
#include "agent/spdk/crypto.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class EncryptionTest : public EncryptionFixture {};

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
  EXPECT_EQ(target_.round_trips(), 2u);  // the query, and then everything else
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
    EXPECT_EQ(target_.round_trips(), 2u);  // the query, and then everything else
    EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
    target_.ResetCounts();
    ASSERT_TRUE(AttachWith(params).ok());
    EXPECT_EQ(target_.round_trips(), 1u);  // the query of the device, which exports the layer
    ASSERT_TRUE(Detach(Handle(1), 1).ok());
  }
}

TEST_F(EncryptionTest, Defect6_AnOldKeyIsNotUsed) {
  ASSERT_TRUE(AttachWith(Params(kOtherKey)).ok());
  Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(1)}});
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  target_.AddBdev(VolumeUuid(1));
  ASSERT_TRUE(AttachWith(Params()).ok());
  EXPECT_EQ(KeyInUse(), kKey);
}

TEST_F(EncryptionTest, Defect6_TheCryptoBdevIsDeletedAfterTheDeviceAndBeforeItsKey) {
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

TEST_F(EncryptionTest, Defect7_ARepeatedAttachAfterARestartOfTheAgentSucceeds) {
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

TEST_F(EncryptionTest, Defect12_AnUnencryptedVolumeIsNotTakenForAnEncryptedOne) {
  ASSERT_TRUE(Attach(Handle(1), 1).ok());
  const std::string before = target_.Dump();
  EXPECT_EQ(AttachWith(Params()).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(EncryptionTest, AMissingVolumeLeavesNothing) {
  const std::string before = target_.Dump();
  EXPECT_EQ(AttachWith(Params(), 2).code(), StatusCode::kNotFound);
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(KeyCount(), 0u);
}

TEST_F(EncryptionTest, IsRestoredFromSealedKeysAfterARestartOfTheTarget) {
  ASSERT_TRUE(AttachWith(Params()).ok());
  RestartTarget();
  WaitFor([this] { return Exported() == std::vector{CryptoName()}; });
  EXPECT_EQ(KeyInUse(), kKey);
  WaitFor([this] { return Shown().state() == admin::v1::STATE_READY; });
}

TEST_F(EncryptionTest, WithoutASealingKeyTheKeyIsNeededAgain) {
  sealing_key_.clear();
  RestartAgent();
  ASSERT_TRUE(AttachWith(Params()).ok());
  SetQosRequest limits;
  limits.set_device_handle(Handle(1));
  limits.set_volume_id(Id(1));
  limits.mutable_maximum()->set_rw_iops(5);
  ASSERT_TRUE(core_->agent().SetQos(context_, limits).ok());
  EXPECT_TRUE(Shown().encryption().has_tweak_mode()) << "also the default, for JSON";
  auto are_limits_applied = [this] {
    const admin::v1::Volume shown = Shown();
    for (const admin::v1::Condition& condition : shown.conditions()) {
      if (condition.type() == "LimitsApplied") return condition.status();
    }
    return admin::v1::Condition::STATUS_UNSPECIFIED;
  };
  EXPECT_EQ(are_limits_applied(), admin::v1::Condition::STATUS_TRUE);
  RestartTarget();
  WaitFor([this] { return Shown().state() == admin::v1::STATE_KEY_NEEDED; });
  EXPECT_EQ(are_limits_applied(), admin::v1::Condition::STATUS_FALSE);
  EXPECT_THAT(Exported(), IsEmpty()) << "never in clear";
  const absl::Status refused = AttachWith(Params(kOtherKey));
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused.message().find("needs its key"), std::string::npos) << refused;
  EXPECT_THAT(Exported(), IsEmpty());
  ASSERT_TRUE(AttachWith(Params()).ok());
  EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
  EXPECT_EQ(KeyInUse(), kKey);
  EXPECT_EQ(Shown().state(), admin::v1::STATE_READY) << "at once, without another comparison";
  EXPECT_EQ(are_limits_applied(), admin::v1::Condition::STATUS_TRUE);
  EXPECT_FALSE(Shown().has_last_error());
}

// After the layer has been removed, another client creates a crypto bdev with the layer's name on
// another volume or with another key.
class StrangeLayerTest : public EncryptionTest {
 protected:
  // The target is restarted while no agent is running, and has such a bdev when the agent starts.
  void MeetStrangeLayer(int base, const char* key) {
    Crash();
    RestartTarget();
    target_.AddBdev(VolumeUuid(2));
    Operator("accel_crypto_key_create",
             {{"name", "owners"}, {"cipher", "AES_XTS"}, {"key", key}, {"key2", kKey2}});
    Operator(
        "bdev_crypto_create",
        {{"base_bdev_name", VolumeUuid(base)}, {"name", CryptoName()}, {"key_name", "owners"}});
  }
  void ExpectRightLayer() {
    const jsonrpc::Json bdev = (*target_.Operator("bdev_get_bdevs", {{"name", CryptoName()}}))[0];
    const jsonrpc::Json& crypto = bdev["driver_specific"]["crypto"];
    EXPECT_EQ(crypto["base_bdev_name"], "null-" + VolumeUuid(1));
    const jsonrpc::Json keys =
        *target_.Operator("accel_crypto_keys_get", {{"key_name", crypto["key_name"]}});
    EXPECT_EQ(keys[0]["key"], kKey);
  }
};

TEST_F(StrangeLayerTest, IsRecreatedByAnAgentThatHasTheKey) {
  ASSERT_TRUE(AttachWith(Params()).ok());
  for (const auto& [base, key] : {std::pair(2, kKey), {1, kOtherKey}, {2, kOtherKey}}) {
    MeetStrangeLayer(base, key);
    Open();
    WaitFor([this] { return Exported() == std::vector{CryptoName()}; });
    ExpectRightLayer();
    WaitFor([this] { return Shown().state() == admin::v1::STATE_READY; });
  }
}

TEST_F(StrangeLayerTest, IsNotExportedByAnAgentWithoutTheKey) {
  sealing_key_.clear();
  RestartAgent();
  ASSERT_TRUE(AttachWith(Params()).ok());
  for (const auto& [base, key] : {std::pair(2, kKey), {1, kOtherKey}}) {
    MeetStrangeLayer(base, key);
    Open();
    WaitFor([this] { return Shown().state() == admin::v1::STATE_KEY_NEEDED; });
    EXPECT_THAT(Exported(), IsEmpty());
    ASSERT_TRUE(Create(1).ok()) << "a call about the device";
    EXPECT_THAT(Exported(), IsEmpty());
    ASSERT_TRUE(AttachWith(Params()).ok());
    EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
    ExpectRightLayer();
  }
}

// The owner of the crypto bdev exports it instead of the layer.
TEST_F(StrangeLayerTest, ACallForTheVolumeDoesNotSayThatAllIsWell) {
  options_.watch_period = std::chrono::milliseconds(10);
  RestartAgent();
  ASSERT_TRUE(AttachWith(Params()).ok());
  // Wait until the agent watches the volume.
  target_.ResetCounts();
  WaitFor([this] {
    const std::vector<std::string> methods = target_.methods();
    return std::count(methods.begin(), methods.end(), "notify_get_notifications") >= 2;
  });
  // The agent cannot create a layer meanwhile.
  std::atomic<bool> is_refused = true;
  target_.SetFaultPlan([&](uint64_t, const jsonrpc::Request& request) {
    const bool makes = request.method == "bdev_crypto_create";
    return is_refused && makes ? spdk::Fault::kRefuse : spdk::Fault::kNone;
  });
  Operator("bdev_crypto_delete", {{"name", CryptoName()}});
  WaitFor([this] { return Shown().state() != admin::v1::STATE_READY; });
  target_.AddBdev(VolumeUuid(2));
  Operator("accel_crypto_key_create",
           {{"name", "owners"}, {"cipher", "AES_XTS"}, {"key", kOtherKey}, {"key2", kKey2}});
  Operator("bdev_crypto_create",
           {{"base_bdev_name", VolumeUuid(2)}, {"name", CryptoName()}, {"key_name", "owners"}});
  Operator("nvmf_subsystem_add_ns",
           {{"nqn", Nqn(1)},
            {"namespace", {{"bdev_name", CryptoName()}, {"nsid", 1}, {"uuid", VolumeUuid(1)}}}});
  is_refused = false;
  EXPECT_FALSE(AttachWith(Params()).ok());
  CreateDeviceRequest create = CreateRequest(1, 1);
  *create.mutable_volume()->mutable_crypto() = Params();
  EXPECT_FALSE(Create(create).ok());
  target_.SetFaultPlan(nullptr);
}

// The layer is on the volume itself, as the target restores it after a restart.
TEST_F(StrangeLayerTest, TheRightOneIsUsedWithoutTheKey) {
  sealing_key_.clear();
  RestartAgent();
  ASSERT_TRUE(AttachWith(Params()).ok());
  MeetStrangeLayer(1, kKey);
  Open();
  WaitFor([this] { return Exported() == std::vector{CryptoName()}; });
  EXPECT_EQ(Shown().state(), admin::v1::STATE_READY);
}

// The layer's UUID is derived from the volume's. A device type that does not claim its bdev would
// export the layer a second time, in clear.
TEST_F(EncryptionTest, ALayerIsNotAVolume) {
  ASSERT_TRUE(AttachWith(Params()).ok());
  ASSERT_TRUE(Create(2).ok());
  AttachVolumeRequest request;
  request.set_device_handle(Handle(2));
  request.mutable_volume()->set_volume_id(
      spdk::CryptoBdevUuid(*base::Uuid::Parse(VolumeUuid(1))).ToBytes());
  for (bool is_restarted : {false, true}) {
    if (is_restarted) RestartAgent();
    // The rejected call makes a background thread check the device, which makes calls from other
    // threads.
    std::atomic<int> calls = 0;
    const auto caller = std::this_thread::get_id();
    target_.SetFaultPlan([&](uint64_t, const jsonrpc::Request&) {
      if (std::this_thread::get_id() == caller) ++calls;
      return spdk::Fault::kNone;
    });
    const absl::Status status = core_->agent().AttachVolume(context_, request).status();
    EXPECT_EQ(status.code(), StatusCode::kAlreadyExists) << status;
    EXPECT_EQ(calls, 0) << "it was tried";
    target_.SetFaultPlan(nullptr);
  }
}

TEST_F(EncryptionTest, ASealingKeyThatIsConfiguredLaterIsUsedByTheNextAttach) {
  sealing_key_.clear();
  RestartAgent();
  ASSERT_TRUE(AttachWith(Params()).ok());
  sealing_key_ = std::string(32, 'x');
  RestartAgent();
  ASSERT_TRUE(AttachWith(Params()).ok());
  RestartTarget();
  WaitFor([this] { return Exported() == std::vector{CryptoName()}; });
}

TEST_F(EncryptionTest, TheBaseDisappearsAndReappears) {
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

TEST_F(EncryptionTest, Defect26_LimitsApplyToTheExportedBdevAndFollowTheVolume) {
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

TEST_F(EncryptionTest, AnotherAgentsEncryptedVolumeIsTakenOverOnlyWithItsKeys) {
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

// The layer and its key are removed with the volume, even if no engine is configured any more.
TEST_F(EncryptionTest, AVolumeWithoutAConfiguredEngineIsDetachedWithItsLayer) {
  for (bool deletes : {false, true}) {
    ASSERT_TRUE(AttachWith(Params()).ok());
    const auto configured = std::exchange(engine_, nullptr);
    RestartAgent();
    EXPECT_TRUE((deletes ? Delete(Handle(1)) : Detach(Handle(1), 1)).ok());
    EXPECT_EQ(KeyCount(), 0u);
    EXPECT_FALSE(target_.Operator("bdev_get_bdevs", {{"name", CryptoName()}}).ok());
    EXPECT_EQ(core_->record().volume_count(), 0u);
    engine_ = configured;
    RestartAgent();
  }
}

}  // namespace
}  // namespace sma::core
