// SPDX-License-Identifier: Apache-2.0

#include "agent/config/host_port.h"

#include <gtest/gtest.h>

namespace sma::config {
namespace {

TEST(HostPort, ReadsAddressesOfAllKinds) {
  struct Case {
    const char* text;
    const char* host;
    uint16_t port;
  };
  for (const Case& c : {Case{"127.0.0.1:4444", "127.0.0.1", 4444}, Case{"[::1]:0", "::1", 0},
                        Case{"[fe80::1%eth0]:65535", "fe80::1%eth0", 65535},
                        Case{"example.com:3260", "example.com", 3260}}) {
    std::optional<HostPort> parsed = ParseHostPort(c.text);
    ASSERT_TRUE(parsed) << c.text;
    EXPECT_EQ(parsed->host, c.host);
    EXPECT_EQ(parsed->port, c.port);
    EXPECT_EQ(parsed->ToString(), c.text);
  }
}

TEST(HostPort, RefusesInvalidAddresses) {
  for (const char* text :
       {"", "host", "host:", ":80", "::1:80", "[::1]", "[::1]80", "[host]:80", "host:65536",
        "host:-1", "host:+1", "host: 1", "ho st:1", "a/b:1", "host:1x", "[1:2]:3", "host:000001"}) {
    EXPECT_FALSE(ParseHostPort(text)) << text;
  }
}

TEST(HostPort, HostHasAColonOnlyAsIpv6) {
  EXPECT_TRUE(IsHost("localhost"));
  EXPECT_TRUE(IsHost("::"));
  EXPECT_TRUE(IsHost("fe80::1%eth0"));
  EXPECT_FALSE(IsHost("localhost:80"));
  EXPECT_FALSE(IsHost("[::1]"));
  EXPECT_EQ(StripBrackets("[::1]"), "::1");
  EXPECT_EQ(StripBrackets("[::1"), "[::1");
}

}  // namespace
}  // namespace sma::config
