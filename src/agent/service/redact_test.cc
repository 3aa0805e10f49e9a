// SPDX-License-Identifier: Apache-2.0

#include "agent/service/redact.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/hex.h"

namespace sma::service {
namespace {

using testing::HasSubstr;
using testing::Not;

const char kKey[] = "00112233445566778899aabbccddeeff";
const char kUuid[] = "01020304-0506-0708-090a-0b0c0d0e0f10";

VolumeParameters SecretVolume() {
  VolumeParameters volume;
  volume.set_volume_id(*base::HexDecode("0102030405060708090a0b0c0d0e0f10"));
  volume.mutable_crypto()->set_key(kKey);
  volume.mutable_crypto()->set_key2("feedfeedfeedfeed");
  volume.mutable_iscsi()->set_portal("127.0.0.1:3260");
  volume.mutable_iscsi()->mutable_chap()->set_user("me");
  volume.mutable_iscsi()->mutable_chap()->set_secret("swordfish");
  volume.mutable_iscsi()->mutable_mutual_chap()->set_secret("sturgeon");
  return volume;
}

void ExpectNoSecret(const std::string& text) {
  EXPECT_THAT(text, Not(HasSubstr(kKey)));
  EXPECT_THAT(text, Not(HasSubstr("feed")));
  EXPECT_THAT(text, Not(HasSubstr("swordfish")));
  EXPECT_THAT(text, Not(HasSubstr("sturgeon")));
}

TEST(Redact, KeysAndSecretsAreNeverPrinted) {
  AttachVolumeRequest attach;
  *attach.mutable_volume() = SecretVolume();
  attach.set_device_handle("nvmf-tcp:nqn.a");
  std::string text = Redacted(attach);
  ExpectNoSecret(text);
  EXPECT_THAT(text, HasSubstr("key: redacted"));
  EXPECT_THAT(text, HasSubstr("secret: redacted"));
  EXPECT_THAT(text, HasSubstr(kUuid));
  EXPECT_THAT(text, HasSubstr("user: \"me\""));
  EXPECT_THAT(text, HasSubstr("nvmf-tcp:nqn.a"));
  ExpectNoSecret(ObjectOf(attach));

  CreateDeviceRequest create;
  *create.mutable_volume() = SecretVolume();
  ExpectNoSecret(Redacted(create));
  ExpectNoSecret(ObjectOf(create));
}

TEST(Redact, UnknownFieldsAreNotPrinted) {
  // Field 2000 of a known message stands for a secret of a future version.
  VolumeCryptoParameters crypto;
  crypto.GetReflection()->MutableUnknownFields(&crypto)->AddLengthDelimited(2000, "swordfish");
  ExpectNoSecret(Redacted(crypto));
}

TEST(Redact, ObjectsAreDescribedBriefly) {
  CreateDeviceRequest create;
  EXPECT_EQ(ObjectOf(create), "no parameters");
  create.mutable_nvmf_tcp()->set_subnqn("nqn.a");
  EXPECT_EQ(ObjectOf(create), "nvmf_tcp nqn.a");
  create.mutable_nvme()->set_physical_id(7);
  *create.mutable_volume() = SecretVolume();
  EXPECT_EQ(ObjectOf(create), std::string("nvme 7/0 volume ") + kUuid);
  DetachVolumeRequest detach;
  detach.set_device_handle("h");
  detach.set_volume_id("short");
  EXPECT_EQ(ObjectOf(detach), "h volume invalid volume id 'short'");
  SetQosRequest qos;
  qos.set_device_handle("h");
  EXPECT_EQ(ObjectOf(qos), "h");
}

TEST(Redact, TextFromAClientCannotForgeALogLine) {
  DeleteDeviceRequest request;
  request.set_handle("nvmf-tcp:a\n2026-01-01 info: all is well\x1b[31m" + std::string(5000, 'x'));
  std::string object = ObjectOf(request);
  EXPECT_THAT(object, Not(HasSubstr("\n")));
  EXPECT_THAT(object, Not(HasSubstr("\x1b")));
  EXPECT_LT(object.size(), 1200u);
}

}  // namespace
}  // namespace sma::service
