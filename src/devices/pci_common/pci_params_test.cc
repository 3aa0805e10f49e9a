// SPDX-License-Identifier: Apache-2.0

#include "devices/pci_common/pci_params.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "agent/config/params.h"
#include "agent/config/parse.h"

namespace sma::pci_common {
namespace {

using testing::HasSubstr;

// A device type with only these parameters.
constexpr config::DeviceType kTypes[] = {
    {.name = "pci", .check = [](config::YamlMap& map) { ReadPciParams(map); }}};

/// Returns the parameters of the only device in a configuration file.
absl::StatusOr<PciParams> ParseText(std::string_view text) {
  absl::StatusOr<config::Config> config = config::Parse(text, "sma.yaml", {}, "", kTypes);
  if (!config.ok()) return config.status();
  return config::ReadParams(config->devices.at(0).params, &ReadPciParams);
}

TEST(PciParams, HaveDefaults) {
  absl::StatusOr<PciParams> params = ParseText("devices:\n- name: pci\n  params:\n");
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->sock_path, "/var/tmp");
  EXPECT_FALSE(params->qmp);
  EXPECT_TRUE(params->buses.empty());
}

TEST(PciParams, BothSpellingsAreEquivalent) {
  for (const char* text : {R"(devices:
- name: pci
  params:
    buses: [{name: bus0}]
    qmp_addr: 127.0.0.1
    qmp_port: 4444
    sock_path: /var/tmp/vfiouser/
)",
                           R"(devices:
- name: 'pci'
  params:
    root_path: '/var/tmp/vfiouser'
    bus: 'bus0'
    address: '127.0.0.1'
    port: 4444
)"}) {
    absl::StatusOr<PciParams> params = ParseText(text);
    ASSERT_TRUE(params.ok()) << params.status();
    ASSERT_EQ(params->buses.size(), 1u);
    EXPECT_EQ(params->buses[0].name, "bus0");
    EXPECT_EQ(params->buses[0].slot_count, 32u);
    EXPECT_EQ(params->qmp, (qmp::Address{.host = "127.0.0.1", .port = 4444, .path = ""}));
    EXPECT_EQ(params->sock_path, "/var/tmp/vfiouser");
  }
}

TEST(PciParams, QmpAddresses) {
  absl::StatusOr<PciParams> params =
      ParseText("devices:\n- name: pci\n  params: {qmp_addr: 'unix:/run/qmp.sock'}\n");
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->qmp, (qmp::Address{.host = "", .port = 0, .path = "/run/qmp.sock"}));
  params = ParseText(R"(devices:
- name: pci
  params:
    qmp_port: 5555
    buses:
    - {name: a, qmp: '[::1]:4444'}
    - {name: b, qmp: /run/b.sock, count: 0}
    - {name: c}
)");
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->qmp, (qmp::Address{.host = "127.0.0.1", .port = 5555, .path = ""}));
  EXPECT_EQ(params->buses[0].qmp, (qmp::Address{.host = "::1", .port = 4444, .path = ""}));
  EXPECT_EQ(params->buses[1].qmp, (qmp::Address{.host = "", .port = 0, .path = "/run/b.sock"}));
  EXPECT_EQ(params->buses[1].slot_count, 0u);
  EXPECT_FALSE(params->buses[2].qmp);
}

TEST(PciParams, VmsMayHaveBusesWithTheSameName) {
  auto parse = [](const char* second) {
    return ParseText(std::string("devices:\n- name: pci\n  params:\n    qmp_port: 4444\n"
                                 "    buses: [{name: a}, {name: a, qmp: ") +
                     second + "}]\n");
  };
  EXPECT_TRUE(parse("'127.0.0.1:4445'").ok());
  EXPECT_FALSE(parse("'127.0.0.1:4444'").ok());
}

struct BadCase {
  const char* text;
  const char* line;  // start of the message
  const char* why;   // text within the message
};

class BadPciParams : public testing::TestWithParam<BadCase> {};

TEST_P(BadPciParams, AreRefusedWithLineAndReason) {
  absl::StatusOr<PciParams> params = ParseText(GetParam().text);
  EXPECT_EQ(params.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(params.status().message());
  EXPECT_THAT(message, testing::StartsWith(GetParam().line));
  EXPECT_THAT(message, HasSubstr(GetParam().why));
  EXPECT_THAT(message, testing::Not(HasSubstr("\n"))) << "one error, one line";
}

constexpr BadCase kBadCases[] = {
    {"devices:\n- name: pci\n  params: {buses: [{name: a, cnt: 1}]}\n", "sma.yaml:3: ", "cnt"},
    {"devices:\n- name: pci\n  params:\n    buses:\n    - name: a\n    - name: a\n",
     "sma.yaml:6: ", "'a' is specified twice"},
    {"devices:\n- name: pci\n  params:\n    buses:\n    - count: 2\n",
     "sma.yaml:5: ", "needs a 'name'"},
    {"devices:\n- name: pci\n  params:\n    buses:\n    - name: ''\n",
     "sma.yaml:5: ", "needs a 'name'"},
    {"devices:\n- name: pci\n  params:\n    buses:\n    - name: a\n      count: -1\n",
     "sma.yaml:6: ", "not '-1'"},
    {"devices:\n- name: pci\n  params:\n    bus: a\n    buses: [{name: b}]\n",
     "sma.yaml:4: ", "are equivalent"},
    {"devices:\n- name: pci\n  params:\n    qmp_port: 1\n    port: 2\n",
     "sma.yaml:5: ", "are equivalent"},
    {"devices:\n- name: pci\n  params: {qmp_addr: 127.0.0.1}\n",
     "sma.yaml:3: ", "'qmp_port' is missing"},
    {"devices:\n- name: pci\n  params: {qmp_addr: /run/q, qmp_port: 1}\n",
     "sma.yaml:3: ", "cannot be combined with a Unix socket"},
    {"devices:\n- name: pci\n  params: {buses: [{name: a, qmp: here}]}\n",
     "sma.yaml:3: ", "HOST:PORT"},
    {"devices:\n- name: pci\n  params: {sock_path: here}\n", "sma.yaml:3: ", "absolute"},
};

INSTANTIATE_TEST_SUITE_P(All, BadPciParams, testing::ValuesIn(kBadCases));

TEST(PciParams, AsJsonAreCheckedTheSame) {
  const nlohmann::json good = {{"bus", "a"}, {"qmp_port", 4444}};
  EXPECT_TRUE(config::ReadParams(good, &ReadPciParams).ok());
  for (const nlohmann::json& bad :
       {nlohmann::json({{"sock_path", "here"}}), nlohmann::json({{"x", 1}}), nlohmann::json(1)}) {
    EXPECT_EQ(config::ReadParams(bad, &ReadPciParams).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
}

}  // namespace
}  // namespace sma::pci_common
