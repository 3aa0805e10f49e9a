// SPDX-License-Identifier: Apache-2.0

#include "agent/probe/iscsi_login.h"

#include <gtest/gtest.h>

#include <chrono>

#include "agent/probe/testing/login_portal.h"

namespace sma::probe {
namespace {

LoginAnswer Probe(int status, std::chrono::milliseconds time = std::chrono::seconds(20)) {
  LoginPortal portal(status);
  return ProbeIscsiLogin({.portal = portal.portal(),
                          .target_iqn = "iqn.2016-06.io.spdk:disk0",
                          .initiator_iqn = "iqn.2016-06.io.spdk:host0",
                          .chap_user = "user0",
                          .chap_secret = "secretsecret"},
                         std::chrono::steady_clock::now() + time);
}

TEST(IscsiLogin, Defect67_RefusalsAreDistinguished) {
  EXPECT_EQ(Probe(0x0201), LoginAnswer::kChapFailed);
  EXPECT_EQ(Probe(0x0202), LoginAnswer::kInitiatorRefused);
  EXPECT_EQ(Probe(0x0203), LoginAnswer::kNoTarget);
  EXPECT_EQ(Probe(0x0300), LoginAnswer::kUnknown) << "a target error";
}

TEST(IscsiLogin, ASilentPortalDelaysOnlyUntilTheDeadline) {
  EXPECT_EQ(Probe(-1, std::chrono::milliseconds(50)), LoginAnswer::kUnknown);
}

TEST(IscsiLogin, NothingListens) {
  EXPECT_EQ(ProbeIscsiLogin({.portal = "127.0.0.1:1",
                             .target_iqn = "iqn.2016-06.io.spdk:disk0",
                             .initiator_iqn = "iqn.2016-06.io.spdk:host0"},
                            std::chrono::steady_clock::now() + std::chrono::seconds(20)),
            LoginAnswer::kUnknown);
}

}  // namespace
}  // namespace sma::probe
