// SPDX-License-Identifier: Apache-2.0

// Tests that volumes which another agent attached, encrypted or not, continue to be exported
// unchanged. Also tests the limits of volumes whose layer changes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "agent/core/testing/encryption_fixture.h"
#include "agent/spdk/crypto.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using jsonrpc::Json;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kTheirLayer[] = "crypto-of-another-agent";

class TakeoverTest : public EncryptionFixture {
 protected:
  void SetUp() override {
    EncryptionFixture::SetUp();
    ASSERT_TRUE(Delete(Handle(1)).ok());
    Crash();
    MakeTheirs();
    Open();
  }

  // Creates device 1 and volume 1 as another agent would: the namespace exports a crypto bdev.
  void MakeTheirs() {
    Operator("bdev_crypto_create", {{"base_bdev_name", "null-" + VolumeUuid(1)},
                                    {"name", kTheirLayer},
                                    {"cipher", "AES_XTS"},
                                    {"key", kKey},
                                    {"key2", kKey2}});
    Operator("nvmf_create_subsystem", {{"nqn", Nqn(1)}});
    Operator("nvmf_subsystem_add_host", {{"nqn", Nqn(1)}, {"host", "nqn.2016-06.io.spdk:host0"}});
    Operator(
        "nvmf_subsystem_add_listener",
        {{"nqn", Nqn(1)},
         {"listen_address",
          {{"trtype", "TCP"}, {"adrfam", "IPv4"}, {"traddr", "127.0.0.1"}, {"trsvcid", "4420"}}}});
    Operator("nvmf_subsystem_add_ns", {{"nqn", Nqn(1)},
                                       {"namespace",
                                        {{"bdev_name", kTheirLayer},
                                         {"nsid", 1},
                                         {"uuid", VolumeUuid(1)},
                                         {"nguid", base::Uuid::Parse(VolumeUuid(1))->ToHex()}}}});
  }
  absl::Status Adopt() {
    admin::v1::AdoptDeviceRequest request;
    request.set_handle(Handle(1));
    request.add_volume_ids(Id(1));
    return core_->admin().AdoptDevice(context_, request).status();
  }
  /// Returns why device 1 cannot be adopted, as the list of candidates says.
  std::string Obstacle() {
    auto list = core_->admin().ListAdoptionCandidates(context_, {});
    if (!list.ok()) return list.status().ToString();
    for (const admin::v1::AdoptionCandidate& candidate : list->candidates()) {
      if (candidate.handle() == Handle(1)) return candidate.obstacle();
    }
    return "it is no candidate";
  }
};

// The list of candidates and AdoptDevice make the same decision.
TEST_F(TakeoverTest, AVolumeInTheRecordIsAnObstacleToAdoption) {
  EXPECT_EQ(Obstacle(), "");
  Operator("nvmf_subsystem_remove_ns", {{"nqn", Nqn(1)}, {"nsid", 1}});
  Operator("bdev_crypto_delete", {{"name", kTheirLayer}});
  ASSERT_TRUE(Create(CreateRequest(0, 1)).ok());
  Operator("nvmf_subsystem_remove_ns", {{"nqn", Nqn(0)}, {"nsid", 1}});
  Operator(
      "nvmf_subsystem_add_ns",
      {{"nqn", Nqn(1)}, {"namespace", {{"bdev_name", VolumeUuid(1)}, {"uuid", VolumeUuid(1)}}}});
  EXPECT_THAT(std::string(Adopt().message()), HasSubstr(Obstacle()));
  EXPECT_THAT(Obstacle(), HasSubstr("already in the record"));
}

TEST_F(TakeoverTest, Defect35_AnAdoptedVolumeKeepsItsLayer) {
  ASSERT_TRUE(Adopt().ok());
  EXPECT_EQ(Shown().encryption().cipher(), VolumeCryptoParameters::AES_XTS);
  EXPECT_THAT(Exported(), ElementsAre(kTheirLayer));
  RestartTarget();
  // The keys were queried from the target, and are stored sealed.
  WaitFor([this] { return Exported().size() == 1; });
  EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
  EXPECT_EQ(KeyInUse(), kKey);
  ASSERT_TRUE(AttachWith(Params()).ok());
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  EXPECT_EQ(KeyCount(), 0u);
}

// CreateDevice that takes over a device also takes over its volumes.
TEST_F(TakeoverTest, CreateDeviceAdoptsTheVolumesOfTheDevice) {
  ASSERT_TRUE(Create(1).ok());
  EXPECT_EQ(Shown().device_handle(), Handle(1));
  EXPECT_EQ(Shown().encryption().cipher(), VolumeCryptoParameters::AES_XTS);
  EXPECT_THAT(Exported(), ElementsAre(kTheirLayer));
  ASSERT_TRUE(Delete(Handle(1)).ok());
  EXPECT_EQ(KeyCount(), 0u);
  EXPECT_EQ(core_->record().volume_count(), 0u);
}

TEST_F(TakeoverTest, ADeviceThatCreateDeviceAdoptedIsNotDeletedWithItsVolumes) {
  options_.refuse_delete_with_volumes = true;
  RestartAgent();
  ASSERT_TRUE(Create(1).ok());
  EXPECT_EQ(Delete(Handle(1)).code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(Exported(), ElementsAre(kTheirLayer));
}

// Without a crypto engine the agent could not keep the volume encrypted.
TEST_F(TakeoverTest, CreateDeviceRefusesADeviceWhoseVolumesCannotBeAdopted) {
  engine_ = nullptr;
  RestartAgent();
  const absl::Status status = Create(1);
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no crypto engine is configured"));
  EXPECT_EQ(core_->record().device_count(), 0u);
  EXPECT_THAT(Exported(), ElementsAre(kTheirLayer));
}

TEST_F(TakeoverTest, Defect35_AnAdoptedVolumeNeedsAKeyThatIsNotKept) {
  sealing_key_.clear();
  Crash();
  Open();
  ASSERT_TRUE(Adopt().ok());
  RestartTarget();
  WaitFor([this] {
    const std::string message = Shown().last_error().message();
    return message.find("attached again with its key") != std::string::npos;
  });
  EXPECT_TRUE(Exported().empty());
  EXPECT_EQ(AttachWith(Params(kOtherKey)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Attach(Handle(1), 1).code(), StatusCode::kInvalidArgument);
  ASSERT_TRUE(AttachWith(Params()).ok());
  EXPECT_EQ(Exported().size(), 1u);
}

// A namespace that was added without a UUID has that of its bdev. If the bdev were mistaken for a
// volume with a layer of its own, it would be encrypted twice after a restart of the target.
TEST_F(TakeoverTest, Defect35_ACryptoBdevIsNotTheVolumeThatItEncrypts) {
  Operator("nvmf_subsystem_remove_ns", {{"nqn", Nqn(1)}, {"nsid", 1}});
  Operator("nvmf_subsystem_add_ns", {{"nqn", Nqn(1)}, {"namespace", {{"bdev_name", kTheirLayer}}}});
  admin::v1::AdoptDeviceRequest request;
  request.set_handle(Handle(1));
  const base::Uuid volume = *base::Uuid::Parse(VolumeUuid(1));
  request.add_volume_ids(spdk::CryptoBdevUuid(volume).ToBytes());
  const std::string before = target_.Dump();
  EXPECT_THAT(Obstacle(), HasSubstr("is the crypto bdev"));
  EXPECT_EQ(core_->admin().AdoptDevice(context_, request).status().code(),
            StatusCode::kFailedPrecondition);
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(core_->record().volume_count(), 0u);
}

TEST_F(TakeoverTest, Defect35_AdoptIsRefusedWithoutAnEngine) {
  engine_ = nullptr;
  Crash();
  Open();
  const std::string before = target_.Dump();
  const absl::Status status = Adopt();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is encrypted"));
  EXPECT_THAT(Obstacle(), HasSubstr("is encrypted"));
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(core_->record().device_count(), 0u);
}

TEST_F(TakeoverTest, Defect35_CreateDeviceWithoutKeysIsRefused) {
  const std::string before = target_.Dump();
  EXPECT_EQ(Create(CreateRequest(1, 1)).code(), StatusCode::kInvalidArgument);
  CreateDeviceRequest request = CreateRequest(1, 1);
  *request.mutable_volume()->mutable_crypto() = Params(kOtherKey);
  EXPECT_EQ(Create(request).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(target_.Dump(), before);
  EXPECT_EQ(core_->record().device_count(), 0u);
  *request.mutable_volume()->mutable_crypto() = Params();
  EXPECT_TRUE(Create(request).ok());
  EXPECT_EQ(target_.Dump(), before);
}

TEST_F(TakeoverTest, Defect35_AttachUsesTheLayerThatHasTheRightKeys) {
  ASSERT_TRUE(Create(CreateRequest(1)).ok());
  const std::string before = target_.Dump();
  EXPECT_FALSE(Attach(Handle(1), 1).ok());
  EXPECT_EQ(AttachWith(Params(kOtherKey)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(target_.Dump(), before);
  ASSERT_TRUE(AttachWith(Params()).ok());
  EXPECT_EQ(target_.Dump(), before);
  target_.Restart();
  target_.AddBdev(VolumeUuid(1));
  WaitFor([this] { return Exported() == std::vector<std::string>{CryptoName()}; });
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  EXPECT_EQ(KeyCount(), 0u);
}

// A crypto bdev of the operator that no device exports is not the volume's layer, whatever its keys
// are.
TEST_F(TakeoverTest, Defect35_AnUnusedLayerStays) {
  Operator("nvmf_delete_subsystem", {{"nqn", Nqn(1)}});
  ASSERT_TRUE(Create(CreateRequest(1)).ok());
  const std::string before = target_.Dump();
  EXPECT_EQ(AttachWith(Params()).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(target_.Dump(), before);
}

class LayerLimitsTest : public EncryptionFixture {
 protected:
  absl::Status Limit(uint64_t rw_iops) {
    SetQosRequest request;
    request.set_device_handle(Handle(1));
    request.set_volume_id(Id(1));
    request.mutable_maximum()->set_rw_iops(rw_iops);
    return core_->agent().SetQos(context_, request).status();
  }
  uint64_t LimitOf(const std::string& bdev) {
    auto found = target_.Operator("bdev_get_bdevs", {{"name", bdev}});
    return (*found)[0]["assigned_rate_limits"]["rw_ios_per_sec"].get<uint64_t>();
  }
};

TEST_F(LayerLimitsTest, Defect44_LimitsAreRemovedWithTheAttachment) {
  for (bool deletes : {false, true}) {
    ASSERT_TRUE(Attach(Handle(1), 1).ok());
    ASSERT_TRUE(Limit(5).ok());
    EXPECT_EQ(LimitOf(VolumeUuid(1)), 5000u);
    ASSERT_TRUE((deletes ? Delete(Handle(1)) : Detach(Handle(1), 1)).ok());
    EXPECT_EQ(LimitOf(VolumeUuid(1)), 0u);
  }
}

TEST_F(LayerLimitsTest, Defect44_UnlimitedMeansUnlimitedWhateverTheLayer) {
  ASSERT_TRUE(Attach(Handle(1), 1).ok());
  ASSERT_TRUE(Limit(5).ok());
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  // The volume is encrypted when it is attached again.
  ASSERT_TRUE(AttachWith(Params()).ok());
  EXPECT_EQ(LimitOf(VolumeUuid(1)), 0u);
  EXPECT_EQ(LimitOf(CryptoName()), 5000u);
  ASSERT_TRUE(Limit(0).ok());
  EXPECT_EQ(LimitOf(CryptoName()), 0u);
  ASSERT_TRUE(Limit(7).ok());
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  ASSERT_TRUE(Attach(Handle(1), 1).ok());
  EXPECT_EQ(LimitOf(VolumeUuid(1)), 7000u);
  ASSERT_TRUE(Limit(0).ok());
  EXPECT_EQ(LimitOf(VolumeUuid(1)), 0u);
}

// The agent's limits of an encrypted volume are on its layer: it removed its own ones from the bdev
// below when the volume was detached, so that those that are there now are an operator's.
TEST_F(LayerLimitsTest, LimitsOfAnOperatorBelowTheLayerStay) {
  ASSERT_TRUE(AttachWith(Params()).ok());
  Operator("bdev_set_qos_limit", {{"name", VolumeUuid(1)}, {"rw_ios_per_sec", 3000}});
  for (uint64_t limit : {uint64_t{7}, UINT64_MAX - 1, uint64_t{0}}) {
    EXPECT_EQ(Limit(limit).ok(), limit != UINT64_MAX - 1);
    EXPECT_EQ(LimitOf(VolumeUuid(1)), 3000u) << limit;
  }
  ASSERT_TRUE(Limit(7).ok());
  ASSERT_TRUE(Detach(Handle(1), 1).ok());
  // A kept limit is applied to the layer again by an attach that fails.
  target_.SetFaultPlan([](uint64_t, const jsonrpc::Request& request) {
    return request.method == "nvmf_subsystem_add_ns" ? spdk::Fault::kRefuse : spdk::Fault::kNone;
  });
  EXPECT_FALSE(AttachWith(Params()).ok());
  EXPECT_EQ(LimitOf(VolumeUuid(1)), 3000u);
}

}  // namespace
}  // namespace sma::core
