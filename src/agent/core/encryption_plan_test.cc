// SPDX-License-Identifier: Apache-2.0

// Tests for events between the two round trips that it takes to attach an encrypted volume or to
// create a device with it: first a query, then key, crypto bdev and namespace in one batch.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/core/testing/encryption_fixture.h"
#include "agent/crypto/bdev_crypto_engine.h"

namespace sma::core {
namespace {

using absl::StatusCode;
using spdk::Fault;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

/// Forwards calls to the target, and runs a function after the first call.
class Between : public jsonrpc::Caller {
 public:
  explicit Between(jsonrpc::Caller& target) : target_(target) {}

  std::vector<absl::StatusOr<jsonrpc::Json>> CallMany(
      const base::Context& context, std::span<const jsonrpc::Request> requests) override {
    auto results = target_.CallMany(context, requests);
    if (after) std::exchange(after, nullptr)();
    return results;
  }
  uint64_t generation() const override { return target_.generation(); }
  bool MayActLate(std::span<const std::string> objects,
                  std::chrono::nanoseconds after_loss) const override {
    return target_.MayActLate(objects, after_loss);
  }

  std::function<void()> after;

 private:
  jsonrpc::Caller& target_;
};

enum class Way { kAttachVolume, kCreateDevice };

class EncryptionPlanTest : public EncryptingAgentFixture, public testing::WithParamInterface<Way> {
 protected:
  void SetUp() override {
    engine_ = [this] { return std::make_unique<crypto::BdevCryptoEngine>(between_, ""); };
    AgentFixture::SetUp();
    target_.AddBdev(VolumeUuid(1));
    if (GetParam() == Way::kAttachVolume) {
      ASSERT_TRUE(Create(1).ok());
    }
    before_ = target_.Dump();
    target_.ResetCounts();
  }
  absl::Status AttachEncrypted(VolumeCryptoParameters::TweakMode mode = {}) {
    VolumeParameters volume;
    volume.set_volume_id(Id(1));
    VolumeCryptoParameters& params = *volume.mutable_crypto();
    params.set_cipher(VolumeCryptoParameters::AES_XTS);
    params.set_key(kKey);
    params.set_key2(kKey2);
    params.set_tweak_mode(mode);
    if (GetParam() == Way::kCreateDevice) {
      CreateDeviceRequest request = CreateRequest(1);
      *request.mutable_volume() = volume;
      return Create(request);
    }
    AttachVolumeRequest request;
    request.set_device_handle(Handle(1));
    *request.mutable_volume() = volume;
    return core_->agent().AttachVolume(context_, request).status();
  }
  /// Undoes AttachEncrypted.
  absl::Status Remove() {
    return GetParam() == Way::kCreateDevice ? Delete(Handle(1)) : Detach(Handle(1), 1);
  }
  void MakeStaleLayer() {
    Operator("bdev_crypto_create", {{"name", CryptoName()},
                                    {"base_bdev_name", VolumeUuid(1)},
                                    {"cipher", "AES_XTS"},
                                    {"key", kOtherKey},
                                    {"key2", kKey2}});
  }
  void DeleteBase() { Operator("bdev_null_delete", {{"name", "null-" + VolumeUuid(1)}}); }
  static std::string CryptoName() {
    return crypto::BdevCryptoEngine::NameOf(*base::Uuid::Parse(VolumeUuid(1)));
  }
  std::vector<std::string> Exported() {
    std::vector<std::string> names;
    const jsonrpc::Json subsystem = Subsystem(1);
    if (subsystem.is_null()) return names;
    for (const auto& ns : subsystem["namespaces"]) names.push_back(ns["bdev_name"]);
    return names;
  }
  std::vector<std::string> Keys() {
    std::vector<std::string> keys;
    const auto found = target_.Operator("accel_crypto_keys_get");
    for (const auto& key : *found) keys.push_back(key["key"]);
    return keys;
  }

  Between between_{target_};
  std::string before_;
};

TEST_P(EncryptionPlanTest, ALayerWithAnotherKeyIsRecreated) {
  between_.after = [this] { MakeStaleLayer(); };
  ASSERT_TRUE(AttachEncrypted().ok());
  const bool creating = GetParam() == Way::kCreateDevice;
  EXPECT_THAT(target_.methods(),
              Contains(creating ? "nvmf_delete_subsystem" : "nvmf_subsystem_remove_ns"));
  EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
  EXPECT_THAT(Keys(), ElementsAre(kKey));
}

TEST_P(EncryptionPlanTest, AnOldLayerIsNeverExported) {
  MakeStaleLayer();
  ASSERT_TRUE(AttachEncrypted().ok());
  for (const char* method : {"nvmf_delete_subsystem", "nvmf_subsystem_remove_ns"})
    EXPECT_THAT(target_.methods(), testing::Not(Contains(method)));
  EXPECT_THAT(Keys(), ElementsAre(kKey));
}

TEST_P(EncryptionPlanTest, TheVolumeDisappearsMeanwhile) {
  between_.after = [this] { DeleteBase(); };
  EXPECT_EQ(AttachEncrypted().code(), StatusCode::kNotFound);
  EXPECT_THAT(Exported(), IsEmpty());
  target_.AddBdev(VolumeUuid(1));
  ASSERT_TRUE(AttachEncrypted().ok());
  EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
  EXPECT_THAT(Keys(), ElementsAre(kKey));
}

TEST_P(EncryptionPlanTest, TheVolumeIsClaimedMeanwhile) {
  ASSERT_TRUE(Create(2).ok());
  std::string taken;
  between_.after = [&] {
    Operator("nvmf_subsystem_add_ns",
             {{"nqn", Nqn(2)}, {"namespace", {{"bdev_name", VolumeUuid(1)}}}});
    taken = target_.Dump();
  };
  for (auto mode : {VolumeCryptoParameters::TWEAK_MODE_SIMPLE_LBA,
                    VolumeCryptoParameters::TWEAK_MODE_INCR_512_FULL_LBA}) {
    EXPECT_EQ(AttachEncrypted(mode).code(), StatusCode::kAlreadyExists);
    EXPECT_EQ(target_.Dump(), taken);
    EXPECT_THAT(Keys(), IsEmpty());
  }
}

TEST_P(EncryptionPlanTest, ATargetThatReordersCallsIsCalledAgain) {
  bool refused = false;
  target_.SetFaultPlan([&](uint64_t, const jsonrpc::Request& request) {
    bool first = request.method == "nvmf_subsystem_add_ns" && !std::exchange(refused, true);
    return first ? Fault::kRefuse : Fault::kNone;
  });
  ASSERT_TRUE(AttachEncrypted().ok());
  EXPECT_EQ(target_.round_trips(), 3u);
  EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
}

TEST_P(EncryptionPlanTest, TheDeviceIsMissingAndRecreated) {
  if (GetParam() == Way::kCreateDevice) {
    ASSERT_TRUE(Create(1).ok());
  }
  Operator("nvmf_delete_subsystem", {{"nqn", Nqn(1)}});
  ASSERT_TRUE(AttachEncrypted().ok());
  EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
  EXPECT_THAT(Keys(), ElementsAre(kKey));
}

// Whichever call fails and however it fails, either nothing is left or the result is as requested.
// The only exception is a key without its bdev after a lost connection, because SPDK may still need
// the key.
TEST_P(EncryptionPlanTest, EachCallFailsInEachWay) {
  const uint64_t calls = GetParam() == Way::kCreateDevice ? 12 : 9;
  for (auto mode : {VolumeCryptoParameters::TWEAK_MODE_SIMPLE_LBA,
                    VolumeCryptoParameters::TWEAK_MODE_INCR_512_FULL_LBA}) {
    for (Fault fault : {Fault::kRefuse, Fault::kNotSent, Fault::kDropCall, Fault::kLoseAnswer}) {
      for (uint64_t call = 0; call < calls; ++call) {
        target_.ResetCounts();
        target_.SetFaultPlan([&](uint64_t index, const jsonrpc::Request&) {
          return index == call ? fault : Fault::kNone;
        });
        absl::Status status = AttachEncrypted(mode);
        target_.SetFaultPlan(nullptr);
        SCOPED_TRACE(testing::Message() << "mode " << mode << " call " << call << " fault "
                                        << static_cast<int>(fault) << ": " << status);
        if (!status.ok()) {
          const bool lost = fault != Fault::kRefuse;
          WaitFor([&] { return Exported().empty() && (lost || Keys().empty()); });
          WaitFor([&] { return AttachEncrypted(mode).ok(); });
        }
        EXPECT_THAT(Exported(), ElementsAre(CryptoName()));
        EXPECT_THAT(Keys(), ElementsAre(kKey));
        WaitFor([&] { return Remove().ok(); });
        ASSERT_EQ(target_.Dump(), before_) << call;
        ASSERT_THAT(Keys(), IsEmpty()) << call;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, EncryptionPlanTest,
                         testing::Values(Way::kAttachVolume, Way::kCreateDevice));

}  // namespace
}  // namespace sma::core
