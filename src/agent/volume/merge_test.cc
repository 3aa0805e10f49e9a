// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/merge.h"

#include <gtest/gtest.h>

#include <string>

#include "agent/volume/testing/params_text.h"

namespace sma::volume {
namespace {

// Returns `known` after merging `asked` into it, or "refused".
std::string Merged(const std::string& known, const std::string& asked) {
  VolumeParameters merged = ParamsFrom(known);
  absl::Status status = MergeConnection(ParamsFrom(asked), merged);
  if (status.ok()) return merged.ShortDebugString();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(merged.ShortDebugString(), ParamsFrom(known).ShortDebugString());
  return "refused";
}

std::string Endpoint(const std::string& trtype, const std::string& traddr,
                     const std::string& port) {
  return "discovery_endpoints { trtype: \"" + trtype + "\" traddr: \"" + traddr + "\" trsvcid: \"" +
         port + "\" }";
}

std::string Discovery(const std::string& endpoints) {
  return "nvmf { discovery { " + endpoints + " } }";
}

std::string Direct(const std::string& nqn, const std::string& address) {
  return "nvmf { subnqn: \"" + nqn + "\" direct { addresses { trtype: \"tcp\" traddr: \"" +
         address + "\" trsvcid: \"4420\" } } }";
}

std::string Iscsi(const std::string& portal, int lun) {
  return "iscsi { portal: \"" + portal +
         "\" target_iqn: \"iqn.2024-01.com.example:a\" lun: " + std::to_string(lun) + " }";
}

TEST(MergeTest, NewEndpointsAreAddedOnce) {
  const std::string a = Endpoint("tcp", "10.0.0.1", "8009");
  const std::string b = Endpoint("tcp", "fd00::1", "8009");
  EXPECT_EQ(Merged(Discovery(a), Discovery(a)), OneLine(Discovery(a)));
  EXPECT_EQ(Merged(Discovery(a), Discovery(b + a)), OneLine(Discovery(a + b)));
  EXPECT_EQ(Merged(Discovery(a + b), Discovery(Endpoint("TCP", "FD00:0::0:1", "8009"))),
            OneLine(Discovery(a + b)));
  EXPECT_EQ(Merged(Discovery(a), Discovery(Endpoint("tcp", "10.0.0.1", "8010"))),
            OneLine(Discovery(a + Endpoint("tcp", "10.0.0.1", "8010"))));
}

TEST(MergeTest, AnEmptyRequestAddsNothing) {
  const std::string known = Discovery(Endpoint("tcp", "10.0.0.1", "8009"));
  EXPECT_EQ(Merged(known, ""), OneLine(known));
  EXPECT_EQ(Merged("", known), OneLine(known));
  EXPECT_EQ(Merged("", Iscsi("10.0.0.1:3260", 1)), "refused");
}

TEST(MergeTest, PathsOfOneSubsystem) {
  const std::string a = "nqn.2016-06.io.spdk:a";
  EXPECT_EQ(Merged(Direct(a, "10.0.0.1"), Direct(a, "10.0.0.1")), OneLine(Direct(a, "10.0.0.1")));
  VolumeParameters both = ParamsFrom(Direct(a, "10.0.0.1"));
  *both.mutable_nvmf()->mutable_direct()->add_addresses() =
      ParamsFrom(Direct(a, "10.0.0.2")).nvmf().direct().addresses(0);
  EXPECT_EQ(Merged(Direct(a, "10.0.0.1"), Direct(a, "10.0.0.2")), both.ShortDebugString());
  EXPECT_EQ(Merged(Direct(a, "10.0.0.1"), Direct("nqn.2016-06.io.spdk:b", "10.0.0.1")), "refused");
}

TEST(MergeTest, KindsDoNotMix) {
  const std::string discovery = Discovery(Endpoint("tcp", "10.0.0.1", "8009"));
  const std::string direct = Direct("nqn.2016-06.io.spdk:a", "10.0.0.1");
  const std::string iscsi = Iscsi("10.0.0.1:3260", 1);
  for (const std::string& known : {discovery, direct, iscsi}) {
    for (const std::string& asked : {discovery, direct, iscsi}) {
      EXPECT_EQ(Merged(known, asked), known == asked ? OneLine(known) : "refused");
    }
  }
  EXPECT_EQ(Merged(iscsi, Iscsi("10.0.0.1:3260", 2)), "refused");
  EXPECT_EQ(Merged(iscsi, Iscsi("10.0.0.2:3260", 1)), "refused");
}

}  // namespace
}  // namespace sma::volume
