// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "agent/core/testing/agent_fixture.h"
#include "agent/crypto/bdev_crypto_engine.h"

namespace sma::core {

/// An agent for tests that encrypt volumes. Checks that no key is destroyed while it is in use.
class EncryptingAgentFixture : public AgentFixture {
 protected:
  static constexpr char kKey[] = "1234567890abcdef1234567890abcdef";
  static constexpr char kKey2[] = "fedcba0987654321fedcba0987654321";
  static constexpr char kOtherKey[] = "00000000000000000000000000000001";

  void TearDown() override {
    AgentFixture::TearDown();
    EXPECT_EQ(target_.keys_destroyed_in_use(), 0u);
  }
};

/// An agent that encrypts volumes, with device 1 and the bdev of volume 1.
class EncryptionFixture : public EncryptingAgentFixture {
 protected:
  void SetUp() override {
    engine_ = [this] { return std::make_unique<crypto::BdevCryptoEngine>(target_, ""); };
    sealing_key_ = "0123456789abcdef0123456789ABCDEF";
    AgentFixture::SetUp();
    target_.AddBdev(VolumeUuid(1));
    ASSERT_TRUE(Create(1).ok());
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
  /// Returns the bdevs behind the namespaces that the host sees on the device.
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

}  // namespace sma::core
