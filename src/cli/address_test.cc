// SPDX-License-Identifier: Apache-2.0

#include "cli/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sma::cli {
namespace {

TEST(AgentAddressTest, Forms) {
  EXPECT_EQ(*ParseAgentAddress("localhost:8080"), "dns:///localhost:8080");
  EXPECT_EQ(*ParseAgentAddress("localhost"), "dns:///localhost:8080");
  EXPECT_EQ(*ParseAgentAddress("192.0.2.1:1"), "ipv4:192.0.2.1:1");
  EXPECT_EQ(*ParseAgentAddress("node-1.example.com:65535"), "dns:///node-1.example.com:65535");
  EXPECT_EQ(*ParseAgentAddress("[::1]:9000"), "ipv6:[::1]:9000");
  EXPECT_EQ(*ParseAgentAddress("[2001:db8::1]"), "ipv6:[2001:db8::1]:8080");
  EXPECT_EQ(*ParseAgentAddress("[fe80::1%eth0]:1"), "ipv6:[fe80::1%25eth0]:1");
  EXPECT_EQ(*ParseAgentAddress("unix:/run/sma.sock"), "unix:/run/sma.sock");
  EXPECT_EQ(*ParseAgentAddress("unix:///run/sma.sock"), "unix:///run/sma.sock");
}

TEST(AgentAddressTest, RejectsOthers) {
  for (const char* address :
       {"", ":8080", "host:", "host:0", "host:65536", "host:80x", "::1", "[::1", "[::1]x",
        "[host]:1", "a b:1", "http://host:1", "unix:", "host:1:2", "user@host:1"}) {
    EXPECT_EQ(ParseAgentAddress(address).status().code(), absl::StatusCode::kInvalidArgument)
        << address;
  }
}

TEST(TransportAddressTest, Forms) {
  auto address = ParseTransportAddress("tcp:192.0.2.1:4420");
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(address->trtype, "tcp");
  EXPECT_EQ(address->traddr, "192.0.2.1");
  EXPECT_EQ(address->trsvcid, "4420");
  address = ParseTransportAddress("TCP:[2001:db8::1]:8009");
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(address->trtype, "TCP");
  EXPECT_EQ(address->traddr, "2001:db8::1");
  EXPECT_EQ(address->trsvcid, "8009");
}

TEST(TransportAddressTest, RejectsOthers) {
  for (const char* text : {"", "tcp", "tcp:", "tcp:192.0.2.1", "tcp:192.0.2.1:", ":192.0.2.1:4420",
                           "tcp:2001:db8::1:4420", "tcp::4420", "192.0.2.1:4420"}) {
    EXPECT_FALSE(ParseTransportAddress(text).ok()) << text;
  }
}

}  // namespace
}  // namespace sma::cli
