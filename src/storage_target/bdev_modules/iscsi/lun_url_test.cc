// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/lun_url.h"

#include <gtest/gtest.h>

namespace sma::storage_target::bdev_iscsi {
namespace {

TEST(LunUrl, ParsesAddressTargetAndLun) {
  auto url = LunUrl::Parse("iscsi://127.0.0.1:3261/iqn.2016-06.io.tgt:disk0/7");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->portal, "127.0.0.1:3261");
  EXPECT_EQ(url->target, "iqn.2016-06.io.tgt:disk0");
  EXPECT_EQ(url->lun, 7);
  EXPECT_FALSE(url->initiator_chap);
  EXPECT_FALSE(url->target_chap);
  EXPECT_EQ(url->ToString(), "iscsi://127.0.0.1:3261/iqn.2016-06.io.tgt:disk0/7");
}

TEST(LunUrl, ParsesIpv6WithoutPort) {
  EXPECT_TRUE(LunUrl::Parse("iscsi://[::1]:3260/iqn.a/1"));
  EXPECT_TRUE(LunUrl::Parse("iscsi://[::1]/iqn.a/1"));
  EXPECT_TRUE(LunUrl::Parse("iscsi://10.0.0.1/iqn.a/1"));
}

TEST(LunUrl, ParsesAHostName) {
  auto url = LunUrl::Parse("iscsi://storage.example:3261/iqn.a/1");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->host_name(), "storage.example");
  EXPECT_EQ(url->PortalAt("10.0.0.1"), "10.0.0.1:3261");
  EXPECT_EQ(url->PortalAt("fd00::1"), "[fd00::1]:3261");
  EXPECT_EQ(url->ToString(), "iscsi://storage.example:3261/iqn.a/1");
  url = LunUrl::Parse("iscsi://localhost/iqn.a/1");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->PortalAt("::1"), "[::1]");
  for (const char* address : {"10.0.0.1:1", "10.0.0.1", "[::1]", "[::1]:1"}) {
    url = LunUrl::Parse("iscsi://" + std::string(address) + "/iqn.a/1");
    ASSERT_TRUE(url) << address;
    EXPECT_EQ(url->host_name(), "") << address;
  }
}

TEST(LunUrl, DoesNotShowSecrets) {
  auto url = LunUrl::Parse(
      "iscsi://me%swordfish@127.0.0.1/iqn.a/1?target_user=you&target_password=sturgeon");
  ASSERT_TRUE(url);
  ASSERT_TRUE(url->initiator_chap);
  EXPECT_EQ(url->initiator_chap->name, "me");
  EXPECT_EQ(url->initiator_chap->secret, "swordfish");
  ASSERT_TRUE(url->target_chap);
  EXPECT_EQ(url->target_chap->name, "you");
  EXPECT_EQ(url->target_chap->secret, "sturgeon");
  EXPECT_EQ(url->ToString(), "iscsi://127.0.0.1/iqn.a/1");
}

TEST(LunUrl, RefusesInvalidUrls) {
  for (const char* text :
       {"", "bogus", "iscsi://", "http://127.0.0.1/iqn.a/1", "iscsi://127.0.0.1",
        "iscsi://127.0.0.1/iqn.a", "iser://127.0.0.1/iqn.a/1", "iscsi://127.1/iqn.a/1",
        "iscsi://a..b/iqn.a/1", "iscsi://[localhost]/iqn.a/1", "iscsi://storage:/iqn.a/1",
        "iscsi://127.0.0.1:0/iqn.a/1", "iscsi://127.0.0.1:65536/iqn.a/1",
        "iscsi://127.0.0.1:x/iqn.a/1", "iscsi://::1/iqn.a/1", "iscsi://[::1/iqn.a/1",
        "iscsi://[127.0.0.1]/iqn.a/1", "iscsi://[::1]x/iqn.a/1"}) {
    EXPECT_FALSE(LunUrl::Parse(text)) << text;
  }
}

}  // namespace
}  // namespace sma::storage_target::bdev_iscsi
