// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "agent/config/parse.h"

namespace sma::config {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;

// Device types that resemble those of the agent: one has parameters and one has two names.
constexpr DeviceType kTypes[] = {
    {.name = "plain", .check = [](YamlMap&) {}},
    {.name = "sized_disk",
     .other_name = "sized-disk",
     .check = [](YamlMap& params) { params.Integer("size", 1, 1, 9); }},
};

absl::StatusOr<Config> ParseText(std::string_view text, const Flags& flags = {},
                                 std::string_view plugins = "") {
  return Parse(text, "sma.yaml", flags, plugins, kTypes);
}

/// Returns the message with which the configuration `text` is rejected.
std::string Refusal(std::string_view text) {
  absl::StatusOr<Config> config = ParseText(text);
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(config.status().message());
}

TEST(Config, DefaultsMatchTheContract) {
  for (const char* text : {"", "# nothing\n", "---\n", "devices:\nplugins:\nport:\n"}) {
    absl::StatusOr<Config> config = ParseText(text);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->address, "localhost");
    EXPECT_EQ(config->port, 8080);
    EXPECT_EQ(config->socket, "/var/tmp/spdk.sock");
    EXPECT_EQ(config->discovery_timeout, seconds(10));
    EXPECT_EQ(config->volume_cleanup_period, seconds(60));
    EXPECT_EQ(config->gone_volumes, GoneVolumes::kReport);
    EXPECT_EQ(config->crypto.engine, "nop");
    EXPECT_EQ(config->attached_volumes_on_delete, VolumesOnDelete::kDetach);
    EXPECT_EQ(config->drift, Drift::kRepair);
    EXPECT_FALSE(config->embedded.enabled);
    EXPECT_FALSE(config->tls);
    EXPECT_FALSE(config->metrics);
    EXPECT_TRUE(config->devices.empty());
    EXPECT_TRUE(config->plugins.empty());
  }
}

TEST(Config, DeviceTypesHaveNamesAndParams) {
  absl::StatusOr<Config> config =
      ParseText("devices:\n- name: plain\n- name: 'sized-disk'\n  params: {size: 3}\n");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->devices.size(), 2u);
  EXPECT_EQ(config->devices[0].name, "plain");
  EXPECT_EQ(config->devices[0].params, nlohmann::json::object());
  EXPECT_EQ(config->devices[1].name, "sized_disk");
  EXPECT_EQ(config->devices[1].location, "sma.yaml:3");
  EXPECT_EQ(config->devices[1].params, nlohmann::json({{"size", 3}}));
}

TEST(Config, EmptyParamsMeanNoParams) {
  absl::StatusOr<Config> config =
      ParseText("devices:\n- name: plain\n  params:\n- name: sized_disk\n  params:\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->devices.size(), 2u);
  EXPECT_EQ(config->devices[1].params, nlohmann::json::object());
}

TEST(Config, KeysBeyondTheContract) {
  absl::StatusOr<Config> config = ParseText(R"(state_dir: /srv/sma
discovery_timeout: 2.5
volume_cleanup_period: 0
gone_volumes: detach
attached_volumes_on_delete: refuse
drift: report
drift_period: 7
stop_timeout: 3
max_calls: 16
embedded:
  enabled: true
  binary: /opt/sma-target
  arguments: [--cores, '2']
  log_file: /var/log/sma-target.log
  stop_with_agent: true
tls: {cert: c.pem, key: k.pem, client_ca: ca.pem}
metrics: {address: '[::1]:9090'}
)");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->state_dir, "/srv/sma");
  EXPECT_EQ(config->discovery_timeout, milliseconds(2500));
  EXPECT_EQ(config->volume_cleanup_period, milliseconds(0));
  EXPECT_EQ(config->gone_volumes, GoneVolumes::kDetach);
  EXPECT_EQ(config->attached_volumes_on_delete, VolumesOnDelete::kRefuse);
  EXPECT_EQ(config->drift, Drift::kReport);
  EXPECT_EQ(config->drift_period, seconds(7));
  EXPECT_EQ(config->stop_timeout, seconds(3));
  EXPECT_EQ(config->max_calls, 16u);
  EXPECT_TRUE(config->embedded.enabled);
  EXPECT_EQ(config->embedded.binary, "/opt/sma-target");
  EXPECT_THAT(config->embedded.arguments, ElementsAre("--cores", "2"));
  EXPECT_EQ(config->embedded.log_file, "/var/log/sma-target.log");
  EXPECT_TRUE(config->embedded.stop_with_agent);
  ASSERT_TRUE(config->tls);
  EXPECT_EQ(config->tls->cert, "c.pem");
  EXPECT_EQ(config->tls->key, "k.pem");
  EXPECT_EQ(config->tls->client_ca, "ca.pem");
  ASSERT_TRUE(config->metrics);
  EXPECT_EQ(config->metrics->address, "[::1]:9090");
}

TEST(Config, ListenAddresses) {
  auto address = [](const char* text) { return ParseText(text)->address; };
  EXPECT_EQ(address("address: '[::1]'"), "::1");
  EXPECT_EQ(address("address: '::1'"), "::1");
  EXPECT_EQ(address("address: 0.0.0.0"), "0.0.0.0");
  EXPECT_EQ(address("address: unix:/run/sma.sock"), "unix:/run/sma.sock");
  EXPECT_EQ(address("address: unix:///run/sma.sock"), "unix:/run/sma.sock");
  EXPECT_THAT(Refusal("port: 1\naddress: 'a b'"), HasSubstr("sma.yaml:2: 'address'"));
  EXPECT_THAT(Refusal("address: 'localhost:80'"), HasSubstr("sma.yaml:1: 'address'"));
  EXPECT_THAT(Refusal("address: unix:relative"), HasSubstr("absolute path"));
}

TEST(Config, FlagsOverrideTheFile) {
  Flags flags{.address = "::1",
              .port = 9,
              .socket = "/s",
              .state_dir = "/d",
              .embedded = true,
              .embedded_stop = true};
  absl::StatusOr<Config> config =
      ParseText("address: a\nport: 1\nsocket: /x\nembedded: {binary: /b}\n", flags);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->address, "::1");
  EXPECT_EQ(config->port, 9);
  EXPECT_EQ(config->socket, "/s");
  EXPECT_EQ(config->state_dir, "/d");
  EXPECT_TRUE(config->embedded.enabled);
  EXPECT_TRUE(config->embedded.stop_with_agent);
  EXPECT_EQ(config->embedded.binary, "/b");
}

TEST(Config, PluginsOfFileAndEnvironment) {
  absl::StatusOr<Config> config = ParseText(
      "plugins: [one, two]\ndevices:\n- name: theirs\n  params: {size: 3}\n", {}, "two::three:");
  ASSERT_TRUE(config.ok()) << config.status();
  std::vector<std::string> names, locations;
  for (const Plugin& plugin : config->plugins) {
    names.push_back(plugin.name);
    locations.push_back(plugin.location);
  }
  EXPECT_THAT(names, ElementsAre("one", "two", "three"));
  EXPECT_THAT(locations, ElementsAre("sma.yaml:1", "sma.yaml:1", "SMA_PLUGINS"));
  ASSERT_EQ(config->devices.size(), 1u);
  EXPECT_EQ(config->devices[0].name, "theirs");
  EXPECT_EQ(config->devices[0].params, nlohmann::json({{"size", 3}}));
}

TEST(Config, CryptoParamsKeepTheirTypes) {
  absl::StatusOr<Config> config = ParseText(
      "crypto:\n  name: bdev_crypto\n"
      "  params: {a: x, b: -1, c: 2.5, d: true, e: null, f: '1', g: [1, {h: i}]}\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->crypto.engine, "bdev_crypto");
  EXPECT_EQ(config->crypto.location, "sma.yaml:1");
  EXPECT_EQ(config->crypto.params, nlohmann::json::parse(R"({"a": "x", "b": -1, "c": 2.5,
      "d": true, "e": null, "f": "1", "g": [1, {"h": "i"}]})"));
}

TEST(Config, SealingKeyHasOneSource) {
  using Source = SealingKey::Source;
  EXPECT_EQ(ParseText("")->sealing_key.source, Source::kNone);
  auto key = [](const char* text) { return ParseText(text)->sealing_key; };
  EXPECT_EQ(key("sealing_key: {file: /etc/sma/key}").source, Source::kFile);
  EXPECT_EQ(key("sealing_key: {file: /etc/sma/key}").name, "/etc/sma/key");
  EXPECT_EQ(key("sealing_key: {credential: sma}").source, Source::kCredential);
  EXPECT_EQ(key("sealing_key: {environment: SMA_KEY}").source, Source::kEnvironment);
}

struct BadCase {
  const char* text;
  const char* line;  // start of the message
  const char* why;   // text within the message
};

class BadConfig : public testing::TestWithParam<BadCase> {};

TEST_P(BadConfig, IsRefusedWithLineAndReason) {
  std::string message = Refusal(GetParam().text);
  EXPECT_THAT(message, testing::StartsWith(GetParam().line));
  EXPECT_THAT(message, HasSubstr(GetParam().why));
  EXPECT_THAT(message, testing::Not(HasSubstr("\n"))) << "one error, one line";
}

constexpr BadCase kBadCases[] = {
    {"port: 1\nprot: 2\n", "sma.yaml:2: ", "unknown key 'prot'"},
    {"devices:\n- name: plain\n  parms: {}\n", "sma.yaml:3: ", "unknown key 'devices[0].parms'"},
    {"devices:\n- name: plain\n  params:\n    x: 1\n", "sma.yaml:4: ", "'devices[0].params.x'"},
    {"devices:\n- name: sized_disk\n  params:\n    size: 10\n", "sma.yaml:4: ", "from 1 to 9"},
    {"\nport: eighty\n", "sma.yaml:2: ", "'port' must be a whole number from 0 to 65535"},
    {"port: '80'\n", "sma.yaml:1: ", "not the text '80'"},
    {"port: 65536\n", "sma.yaml:1: ", "65536"},
    {"port: 1.5\n", "sma.yaml:1: ", "whole number"},
    {"port: [1]\n", "sma.yaml:1: ", "not a list"},
    {"address: 10\n", "sma.yaml:1: ", "in quotes"},
    {"address: true\n", "sma.yaml:1: ", "must be text"},
    {"socket: relative\n", "sma.yaml:1: ", "absolute path"},
    {"socket: ''\n", "sma.yaml:1: ", "absolute path"},
    {"discovery_timeout: soon\n", "sma.yaml:1: ", "seconds"},
    {"discovery_timeout: 0\n", "sma.yaml:1: ", "seconds from 0.001"},
    {"volume_cleanup_period: -1\n", "sma.yaml:1: ", "seconds from 0"},
    {"volume_cleanup_period: .inf\n", "sma.yaml:1: ", "seconds"},
    {"volume_cleanup_period: nan\n", "sma.yaml:1: ", "seconds"},
    {"drift: maybe\n", "sma.yaml:1: ", "one of: repair, report"},
    {"max_calls: 0\n", "sma.yaml:1: ", "from 1 to 1024"},
    {"embedded: {enabled: 'true'}\n", "sma.yaml:1: ", "true or false"},
    {"embedded: yes\n", "sma.yaml:1: ", "must be a mapping"},
    {"embedded: {arguments: [1]}\n", "sma.yaml:1: ", "'embedded.arguments[0]' must be text"},
    {"devices: {}\n", "sma.yaml:1: ", "must be a list"},
    {"devices:\n- plain\n", "sma.yaml:2: ", "must be a mapping"},
    {"devices:\n- name: vhost\n",
     "sma.yaml:2: ", "unknown device 'vhost' (known: plain, sized_disk)"},
    {"devices:\n- params: {}\n", "sma.yaml:2: ", "needs a 'name'"},
    {"devices:\n- name: plain\n- name: plain\n", "sma.yaml:3: ", "already defined at sma.yaml:2"},
    {"devices:\n- name: sized-disk\n- name: sized_disk\n",
     "sma.yaml:3: ", "only one device per protocol"},
    {"devices:\n- name: plain\n  params: text\n", "sma.yaml:3: ", "must be a mapping"},
    {"plugins: name\n", "sma.yaml:1: ", "must be a list"},
    {"port: 1\nsealing_key: {}\n", "sma.yaml:2: ", "needs one of"},
    {"sealing_key:\n", "sma.yaml:1: ", "needs one of"},
    {"sealing_key: {file: a, environment: b}\n", "sma.yaml:1: ", "needs one of"},
    {"sealing_key: {file:}\n", "sma.yaml:1: ", "needs one of"},
    {"sealing_key: {credential: a/b}\n", "sma.yaml:1: ", "not a path"},
    {"sealing_key: {file: a, key: abc}\n", "sma.yaml:1: ", "'sealing_key.key'"},
    {"crypto: {params: {}}\n", "sma.yaml:1: ", "needs a 'name'"},
    {"crypto: {name: a, params: [1]}\n", "sma.yaml:1: ", "must be a mapping"},
    {"crypto: {name: a, params: &x {b: *x}}\n", "sma.yaml:1: ", "deep"},
    {"tls:\n", "sma.yaml:1: ", "'cert' and 'key'"},
    {"tls: {cert: a}\n", "sma.yaml:1: ", "'cert' and 'key'"},
    {"tls: {cert: a, key: b, client_ca: }\n", "sma.yaml:1: ", "client_ca"},
    {"metrics: {address: here}\n", "sma.yaml:1: ", "HOST:PORT"},
    {"port: 1\nport: 2\n", "sma.yaml:2: ", "'port' is specified twice"},
    {"? [a]\n: 1\n", "sma.yaml:1: ", "a key must be a string"},
    {"- a\n", "sma.yaml:1: ", "the file must be a mapping"},
    {"port: 1\nplugins: [b\n", "sma.yaml:3: ", "end of"},
    {"port: 1\n\tx: 2\n", "sma.yaml:2: ", ""},
    {"port: 1\naddress: a\x01\n", "sma.yaml:2: ", "control character"},
    {",", "sma.yaml:1: ", "more than one"},
    {"port: 1\n---\nport: 2\n", "sma.yaml:2: ", "more than one"},
};

INSTANTIATE_TEST_SUITE_P(All, BadConfig, testing::ValuesIn(kBadCases));

TEST(Config, ReportsAllErrorsInLineOrder) {
  std::string message = Refusal("port: x\ndevices:\n- name: plain\n- name: plain\nzzz: 1\n");
  EXPECT_THAT(message, testing::MatchesRegex("sma.yaml:1: .*\nsma.yaml:4: .*\nsma.yaml:5: .*"));
}

TEST(Config, LoadsAFileAndReportsReadErrors) {
  std::string path = testing::TempDir() + "sma_config_test.yaml";
  std::ofstream(path) << "port: 1234\n";
  absl::StatusOr<Config> config = Load(path, {}, {});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->port, 1234);
  std::ofstream(path) << "port: x\n";
  EXPECT_THAT(std::string(Load(path, {}, {}).status().message()), HasSubstr(path + ":1: "));
  std::remove(path.c_str());
  EXPECT_EQ(Load(path, {}, {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(Load("", {}, {}).ok());
}

TEST(Config, StateDirFollowsSystemd) {
  ::setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two", 1);
  EXPECT_EQ(DefaultStateDir(), "/var/lib/one");
  ::unsetenv("STATE_DIRECTORY");
  EXPECT_THAT(DefaultStateDir(), testing::EndsWith("/sma"));
}

}  // namespace
}  // namespace sma::config
