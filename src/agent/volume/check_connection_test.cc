// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/check_connection.h"

#include <gtest/gtest.h>

#include <string>

#include "agent/volume/testing/params_text.h"

namespace sma::volume {
namespace {

// Returns the result of CheckConnection on one line, or its error.
std::string Checked(const std::string& text) {
  VolumeParameters params = ParamsFrom(text);
  absl::Status status = CheckConnection(params);
  if (!status.ok()) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  }
  return params.ShortDebugString();
}

bool IsRefused(const std::string& text, const std::string& field) {
  return Checked(text).starts_with("volume." + field + ":");
}

TEST(CheckConnectionTest, ALocalVolumeNeedsNoConnection) { EXPECT_EQ(Checked(""), ""); }

TEST(CheckConnectionTest, DiscoveryEndpointsAreCompletedWithoutDuplicates) {
  EXPECT_EQ(Checked(R"(nvmf { discovery {
                discovery_endpoints { trtype: "TCP" traddr: "127.0.0.1" trsvcid: "4420" }
                discovery_endpoints { traddr: "0:0::1" }
                discovery_endpoints { trtype: "tcp" traddr: "127.0.0.1" trsvcid: "4420" }
                discovery_endpoints { trtype: "tcp" traddr: "::1" trsvcid: "8009" }
                discovery_endpoints { trtype: "tcp" traddr: "Storage" } } })"),
            OneLine(R"(nvmf { discovery {
                discovery_endpoints { trtype: "tcp" traddr: "127.0.0.1" trsvcid: "4420" }
                discovery_endpoints { trtype: "tcp" traddr: "::1" trsvcid: "8009" }
                discovery_endpoints { trtype: "tcp" traddr: "storage" trsvcid: "8009" } } })"));
}

TEST(CheckConnectionTest, ADirectConnectionNeedsItsSubsystem) {
  EXPECT_EQ(Checked(R"(nvmf { subnqn: "nqn.2016-06.io.spdk:a" hostnqn: "nqn.2016-06.io.spdk:h"
                         direct { addresses { traddr: "10.0.0.1" } } })"),
            OneLine(R"(nvmf { subnqn: "nqn.2016-06.io.spdk:a" hostnqn: "nqn.2016-06.io.spdk:h"
                      direct { addresses { trtype: "tcp" traddr: "10.0.0.1" trsvcid: "4420" } } })"));
  EXPECT_TRUE(IsRefused(R"(nvmf { direct { addresses { traddr: "10.0.0.1" } } })", "nvmf.subnqn"));
  EXPECT_TRUE(
      IsRefused(R"(nvmf { subnqn: "x" direct { addresses { traddr: "::1" } } })", "nvmf.subnqn"));
}

TEST(CheckConnectionTest, MissingAndSuperfluousParameters) {
  EXPECT_TRUE(IsRefused("nvmf { }", "nvmf"));
  EXPECT_TRUE(IsRefused("nvmf { discovery { } }", "nvmf.discovery.discovery_endpoints"));
  EXPECT_TRUE(
      IsRefused(R"(nvmf { subnqn: "nqn.2016-06.io.spdk:a" direct { } })", "nvmf.direct.addresses"));
  EXPECT_TRUE(IsRefused(R"(nvmf { hostnqn: "me" discovery { discovery_endpoints {
                             traddr: "::1" } } })",
                        "nvmf.hostnqn"));
  VolumeParameters many;
  for (int i = 0; i < 65; ++i) {
    auto* endpoint = many.mutable_nvmf()->mutable_discovery()->add_discovery_endpoints();
    endpoint->set_traddr("10.0.0." + std::to_string(i));
  }
  EXPECT_EQ(CheckConnection(many).code(), absl::StatusCode::kInvalidArgument);
  many.mutable_nvmf()->mutable_discovery()->mutable_discovery_endpoints()->RemoveLast();
  EXPECT_TRUE(CheckConnection(many).ok());
}

std::string Iscsi(const std::string& portal, const std::string& more = "") {
  return R"(iscsi { target_iqn: "iqn.2024-01.com.example:disks"
                    initiator_iqn: "iqn.2024-01.com.example:agent" portal: ")" +
         portal + "\" " + more + " }";
}

TEST(CheckConnectionTest, IscsiPortals) {
  for (auto [portal, checked] : {std::pair{"10.0.0.1", "10.0.0.1:3260"},
                                 {"10.0.0.1:860", "10.0.0.1:860"},
                                 {"[::1]", "[::1]:3260"},
                                 {"[0::1]:860", "[::1]:860"},
                                 {"Storage.example", "storage.example:3260"},
                                 {"storage:860", "storage:860"}}) {
    EXPECT_EQ(Checked(Iscsi(portal)), OneLine(Iscsi(checked))) << portal;
  }
  for (const char* portal :
       {"", ":3260", "10.0.0.1:", "10.0.0.1:0", "::1", "[::1", "[::1]860", "[]:860", "a:b",
        "10.0.0.1:3260,1", "a@b", "[10.0.0.1]:860", "[storage]", "iscsi://storage"}) {
    EXPECT_TRUE(IsRefused(Iscsi(portal), "iscsi.portal")) << portal;
  }
}

TEST(CheckConnectionTest, IscsiNamesAndUnits) {
  EXPECT_TRUE(IsRefused(R"(iscsi { portal: "::1" })", "iscsi.portal"));
  EXPECT_TRUE(IsRefused(R"(iscsi { portal: "[::1]" })", "iscsi.target_iqn"));
  EXPECT_TRUE(IsRefused(R"(iscsi { portal: "[::1]" target_iqn: "iqn.2024-01.com.example:a/b"
                                   initiator_iqn: "iqn.2024-01.com.example:agent" })",
                        "iscsi.target_iqn"));
  EXPECT_TRUE(IsRefused(R"(iscsi { portal: "[::1]" target_iqn: "iqn.2024-01.com.example:a"
                                   initiator_iqn: "agent" })",
                        "iscsi.initiator_iqn"));
  EXPECT_TRUE(IsRefused(Iscsi("[::1]", "lun: 16384"), "iscsi.lun"));
  EXPECT_EQ(Checked(Iscsi("[::1]:1", "lun: 16383")), OneLine(Iscsi("[::1]:1", "lun: 16383")));
}

TEST(CheckConnectionTest, NoSecretIsInAMessage) {
  for (const char* chap :
       {R"(chap { user: "u" secret: "top%secret" })", R"(chap { user: "a:b" secret: "topsecret" })",
        R"(chap { secret: "topsecret" })", R"(chap { user: "u" })",
        R"(mutual_chap { user: "u" secret: "topsecret" })",
        R"(chap { user: "u" secret: "fine" }
                              mutual_chap { user: "u" secret: "top@secret" })"}) {
    const std::string message = Checked(Iscsi("[::1]", chap));
    EXPECT_TRUE(message.starts_with("volume.iscsi.")) << message;
    EXPECT_EQ(message.find("secret\""), std::string::npos) << message;
    EXPECT_EQ(message.find("top"), std::string::npos) << message;
  }
}

TEST(CheckConnectionTest, HostNamesAreReplaced) {
  VolumeParameters params = ParamsFrom(R"(nvmf { discovery {
      discovery_endpoints { trtype: "tcp" traddr: "10.0.0.1" trsvcid: "1" }
      discovery_endpoints { trtype: "tcp" traddr: "localhost" trsvcid: "2" } } })");
  ASSERT_TRUE(ResolveHosts(base::Context::Background(), params).ok());
  const auto& endpoints = params.nvmf().discovery().discovery_endpoints();
  EXPECT_EQ(endpoints[0].traddr(), "10.0.0.1");
  EXPECT_NE(endpoints[1].traddr(), "localhost");
  EXPECT_EQ(endpoints[1].trsvcid(), "2");
  VolumeParameters local;
  EXPECT_TRUE(ResolveHosts(base::Context::Background(), local).ok());
}

}  // namespace
}  // namespace sma::volume
