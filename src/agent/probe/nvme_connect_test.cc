// SPDX-License-Identifier: Apache-2.0

#include "agent/probe/nvme_connect.h"

#include <gtest/gtest.h>

#include <string>

#include "storage_target/nvmf/tcp/testing/test_target.h"

namespace sma::probe {
namespace {

using storage_target::nvmf::tcp::TestTarget;

constexpr char kHost[] = "nqn.2016-06.io.spdk:host0";

class NvmeConnectTest : public testing::Test {
 protected:
  ConnectAnswer Probe(const std::string& subnqn, const std::string& hostnqn) {
    return ProbeNvmeConnect("127.0.0.1", target_.address().service_id, subnqn, hostnqn,
                            std::chrono::steady_clock::now() + std::chrono::seconds(20));
  }
  TestTarget target_;
};

TEST_F(NvmeConnectTest, Defect67_ARefusedHostIsDistinguishedFromAMissingSubsystem) {
  EXPECT_EQ(Probe(TestTarget::kNqn, kHost), ConnectAnswer::kAccepted);
  EXPECT_EQ(Probe("nqn.2016-06.io.spdk:none", kHost), ConnectAnswer::kNoSubsystem);
  target_.InControl([this] { target_.subsystem().set_allow_any_host(false); });
  EXPECT_EQ(Probe(TestTarget::kNqn, kHost), ConnectAnswer::kHostRefused);
}

TEST_F(NvmeConnectTest, ATooLongNqnIsNotSent) {
  EXPECT_EQ(Probe(std::string(256, 'n'), kHost), ConnectAnswer::kUnknown);
}

TEST(NvmeConnect, NothingListens) {
  EXPECT_EQ(ProbeNvmeConnect("127.0.0.1", "1", TestTarget::kNqn, kHost,
                             std::chrono::steady_clock::now() + std::chrono::seconds(20)),
            ConnectAnswer::kUnknown);
}

}  // namespace
}  // namespace sma::probe
