// SPDX-License-Identifier: Apache-2.0

#include "devices/built_in/built_in.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "agent/config/parse.h"
#include "agent/spdk/testing/fake_target.h"

namespace sma::devices {
namespace {

TEST(BuiltInTypes, HaveDistinctNamesAndProtocols) {
  std::set<std::string_view> names, protocols;
  for (const device::BuiltInType& type : BuiltInTypes()) {
    EXPECT_TRUE(names.insert(type.config.name).second) << type.config.name;
    EXPECT_TRUE(protocols.insert(type.protocol).second) << type.protocol;
    if (!type.config.other_name.empty()) {
      EXPECT_TRUE(names.insert(type.config.other_name).second) << type.config.other_name;
    }
  }
}

TEST(BuiltInTypes, CreateManagersWithTheSameNames) {
  spdk::FakeTarget target;
  qmp::VmClients vms;
  for (const device::BuiltInType& type : BuiltInTypes()) {
    auto manager = type.make({.target = target, .vms = vms}, nlohmann::json::object());
    ASSERT_TRUE(manager.ok()) << type.config.name << manager.status();
    EXPECT_EQ((*manager)->name(), type.config.name);
    EXPECT_EQ((*manager)->protocol(), type.protocol);
  }
}

// Tests the configuration example in SPDK's documentation.
TEST(BuiltInTypes, PublishedExampleIsAccepted) {
  absl::StatusOr<config::Config> config = config::Parse(R"(address: 'localhost'
socket: '/var/tmp/spdk.sock'
port: 8080
devices:
- name: 'vfiouser'
  params:
    root_path: '/var/tmp/vfiouser'
    bus: 'bus0'
    address: '127.0.0.1'
    port: 4444
- name: 'vhost-blk'
)",
                                                        "sma.yaml", {}, "", ConfigurationTypes());
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->devices.size(), 2u);
  EXPECT_EQ(config->devices[0].name, "vfiouser");
  EXPECT_EQ(config->devices[1].name, "vhost_blk");
  EXPECT_EQ(config->devices[1].location, "sma.yaml:11");
}

}  // namespace
}  // namespace sma::devices
