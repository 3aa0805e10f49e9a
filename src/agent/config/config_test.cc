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

absl::StatusOr<Config> ParseText(std::string_view text, const Flags& flags = {},
                                 std::string_view plugins = "") {
  return Parse(text, "sma.yaml", flags, plugins);
}

/// The message that the configuration is refused with.
std::string Refusal(std::string_view text) {
  absl::StatusOr<Config> config = ParseText(text);
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(config.status().message());
}

TEST(Config, DefaultsAreThoseOfTheContract) {
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

TEST(Config, PublishedExampleStartsAsItStands) {
  absl::StatusOr<Config> config = ParseText(R"(address: 'localhost'
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
)");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->devices.size(), 2u);
  const Device& vfiouser = config->devices[0];
  EXPECT_EQ(vfiouser.type, Device::Type::kVfioUser);
  EXPECT_EQ(vfiouser.pci.sock_path, "/var/tmp/vfiouser");
  ASSERT_EQ(vfiouser.pci.buses.size(), 1u);
  EXPECT_EQ(vfiouser.pci.buses[0].name, "bus0");
  EXPECT_EQ(vfiouser.pci.buses[0].count, 32u);
  EXPECT_EQ(vfiouser.pci.qmp, (QmpAddress{.host = "127.0.0.1", .port = 4444, .path = ""}));
  const Device& vhost = config->devices[1];
  EXPECT_EQ(vhost.type, Device::Type::kVhostBlk);
  EXPECT_EQ(vhost.name, "vhost_blk");
  EXPECT_EQ(vhost.location, "sma.yaml:11");
  EXPECT_EQ(vhost.pci.sock_path, "/var/tmp");
  EXPECT_FALSE(vhost.pci.qmp);
  EXPECT_TRUE(vhost.pci.buses.empty());
}

TEST(Config, BothSpellingsOfParamsMeanTheSame) {
  absl::StatusOr<Config> config = ParseText(R"(devices:
- name: vfiouser
  params:
    buses: [{name: bus0}]
    qmp_addr: 127.0.0.1
    qmp_port: 4444
    sock_path: /var/tmp/vfiouser/
- name: vhost_blk
  params: {bus: bus0, address: 127.0.0.1, port: 4444, root_path: /var/tmp/vfiouser}
)");
  ASSERT_TRUE(config.ok()) << config.status();
  for (const Device& device : config->devices) {
    ASSERT_EQ(device.pci.buses.size(), 1u);
    EXPECT_EQ(device.pci.buses[0].name, "bus0");
    EXPECT_EQ(device.pci.buses[0].count, 32u);
    EXPECT_EQ(device.pci.qmp, (QmpAddress{.host = "127.0.0.1", .port = 4444, .path = ""}));
    EXPECT_EQ(device.pci.sock_path, "/var/tmp/vfiouser");
  }
}

TEST(Config, QmpAddresses) {
  absl::StatusOr<Config> config = ParseText(R"(devices:
- name: vfiouser
  params: {qmp_addr: 'unix:/run/qmp.sock'}
- name: vhost_blk
  params:
    qmp_port: 5555
    buses:
    - {name: a, qmp: '[::1]:4444'}
    - {name: b, qmp: /run/b.sock, count: 0}
    - {name: c}
)");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->devices[0].pci.qmp,
            (QmpAddress{.host = "", .port = 0, .path = "/run/qmp.sock"}));
  const PciParams& vhost = config->devices[1].pci;
  EXPECT_EQ(vhost.qmp, (QmpAddress{.host = "127.0.0.1", .port = 5555, .path = ""}));
  EXPECT_EQ(vhost.buses[0].qmp, (QmpAddress{.host = "::1", .port = 4444, .path = ""}));
  EXPECT_EQ(vhost.buses[1].qmp, (QmpAddress{.host = "", .port = 0, .path = "/run/b.sock"}));
  EXPECT_EQ(vhost.buses[1].count, 0u);
  EXPECT_FALSE(vhost.buses[2].qmp);
}

TEST(Config, PackedRingsAreForVhostBlk) {
  absl::StatusOr<Config> config =
      ParseText("devices:\n- name: vhost_blk\n  params: {packed_ring: true}\n- name: vfiouser\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->devices[0].pci.packed_ring);
  EXPECT_FALSE(config->devices[1].pci.packed_ring);
  EXPECT_FALSE(ParseText("devices:\n- name: vfiouser\n  params: {packed_ring: true}\n").ok());
  EXPECT_FALSE(config->devices[1].pci.msix);
  config = ParseText("devices:\n- name: vfiouser\n  params: {interrupts: msix}\n");
  EXPECT_TRUE(config.ok() && config->devices[0].pci.msix) << config.status();
  EXPECT_FALSE(ParseText("devices:\n- name: vfiouser\n  params: {interrupts: intx}\n").ok());
  EXPECT_FALSE(ParseText("devices:\n- name: vhost_blk\n  params: {interrupts: msi}\n").ok());
  EXPECT_FALSE(ParseText("devices:\n- name: vhost_blk\n  params: {packed_ring: some}\n").ok());
}

TEST(Config, MachinesMayHaveBusesOfTheSameName) {
  auto parse = [](const char* second) {
    return ParseText(std::string("devices:\n- name: vhost_blk\n  params:\n    qmp_port: 4444\n"
                                 "    buses: [{name: a}, {name: a, qmp: ") +
                     second + "}]\n");
  };
  EXPECT_TRUE(parse("'127.0.0.1:4445'").ok());
  EXPECT_FALSE(parse("'127.0.0.1:4444'").ok());
}

TEST(Config, EmptyParamsMeanNone) {
  absl::StatusOr<Config> config =
      ParseText("devices:\n- name: nvmf_tcp\n  params:\n- name: vhost_blk\n  params:\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->devices.size(), 2u);
  EXPECT_EQ(config->devices[1].pci.sock_path, "/var/tmp");
}

TEST(Config, OurOwnKeys) {
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

TEST(Config, FlagsWin) {
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
  EXPECT_EQ(config->devices[0].type, Device::Type::kPlugin);
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

TEST(Config, SealingKeyComesFromOnePlace) {
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
  const char* line;  // the beginning of the message
  const char* why;   // and what is in it
};

class BadConfig : public testing::TestWithParam<BadCase> {};

TEST_P(BadConfig, IsRefusedWithLineAndReason) {
  std::string message = Refusal(GetParam().text);
  EXPECT_THAT(message, testing::StartsWith(GetParam().line));
  EXPECT_THAT(message, HasSubstr(GetParam().why));
  EXPECT_THAT(message, testing::Not(HasSubstr("\n"))) << "one mistake, one line";
}

constexpr BadCase kBadCases[] = {
    {"port: 1\nprot: 2\n", "sma.yaml:2: ", "unknown key 'prot'"},
    {"devices:\n- name: nvmf_tcp\n  parms: {}\n", "sma.yaml:3: ", "unknown key 'devices[0].parms'"},
    {"devices:\n- name: nvmf_tcp\n  params:\n    x: 1\n", "sma.yaml:4: ", "'devices[0].params.x'"},
    {"devices:\n- name: vfiouser\n  params: {buses: [{name: a, cnt: 1}]}\n", "sma.yaml:3: ", "cnt"},
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
    {"devices:\n- nvmf_tcp\n", "sma.yaml:2: ", "must be a mapping"},
    {"devices:\n- name: vhost\n", "sma.yaml:2: ", "unknown device 'vhost'"},
    {"devices:\n- params: {}\n", "sma.yaml:2: ", "needs a 'name'"},
    {"devices:\n- name: nvmf_tcp\n- name: nvmf_tcp\n", "sma.yaml:3: ", "already at sma.yaml:2"},
    {"devices:\n- name: vhost-blk\n- name: vhost_blk\n", "sma.yaml:3: ", "one of a protocol"},
    {"devices:\n- name: vfiouser\n  params: text\n", "sma.yaml:3: ", "must be a mapping"},
    {"devices:\n- name: vfiouser\n  params:\n    buses:\n    - name: a\n    - name: a\n",
     "sma.yaml:6: ", "'a' is given twice"},
    {"devices:\n- name: vfiouser\n  params:\n    buses:\n    - count: 2\n",
     "sma.yaml:5: ", "needs a 'name'"},
    {"devices:\n- name: vfiouser\n  params:\n    buses:\n    - name: ''\n",
     "sma.yaml:5: ", "needs a 'name'"},
    {"devices:\n- name: vfiouser\n  params:\n    buses:\n    - name: a\n      count: -1\n",
     "sma.yaml:6: ", "not '-1'"},
    {"devices:\n- name: vfiouser\n  params:\n    bus: a\n    buses: [{name: b}]\n",
     "sma.yaml:4: ", "mean the same"},
    {"devices:\n- name: vfiouser\n  params:\n    qmp_port: 1\n    port: 2\n",
     "sma.yaml:5: ", "mean the same"},
    {"devices:\n- name: vfiouser\n  params: {qmp_addr: 127.0.0.1}\n",
     "sma.yaml:3: ", "'qmp_port' is missing"},
    {"devices:\n- name: vfiouser\n  params: {qmp_addr: /run/q, qmp_port: 1}\n",
     "sma.yaml:3: ", "beside a Unix socket"},
    {"devices:\n- name: vfiouser\n  params: {buses: [{name: a, qmp: here}]}\n",
     "sma.yaml:3: ", "HOST:PORT"},
    {"devices:\n- name: vfiouser\n  params: {sock_path: here}\n", "sma.yaml:3: ", "absolute"},
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
    {"port: 1\nport: 2\n", "sma.yaml:2: ", "'port' is given twice"},
    {"? [a]\n: 1\n", "sma.yaml:1: ", "a key must be a word"},
    {"- a\n", "sma.yaml:1: ", "the file must be a mapping"},
    {"port: 1\nplugins: [b\n", "sma.yaml:3: ", "end of"},
    {"port: 1\n\tx: 2\n", "sma.yaml:2: ", ""},
    {"port: 1\naddress: a\x01\n", "sma.yaml:2: ", "control character"},
    {",", "sma.yaml:1: ", "more than one"},
    {"port: 1\n---\nport: 2\n", "sma.yaml:2: ", "more than one"},
};

INSTANTIATE_TEST_SUITE_P(All, BadConfig, testing::ValuesIn(kBadCases));

TEST(Config, TellsAllMistakesInTheOrderOfTheirLines) {
  std::string message = Refusal("port: x\ndevices:\n- name: nvmf_tcp\n- name: nvmf_tcp\nzzz: 1\n");
  EXPECT_THAT(message, testing::MatchesRegex("sma.yaml:1: .*\nsma.yaml:4: .*\nsma.yaml:5: .*"));
}

TEST(Config, LoadsAFileAndSaysWhyItCannot) {
  std::string path = testing::TempDir() + "sma_config_test.yaml";
  std::ofstream(path) << "port: 1234\n";
  absl::StatusOr<Config> config = Load(path, {});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->port, 1234);
  std::ofstream(path) << "port: x\n";
  EXPECT_THAT(std::string(Load(path, {}).status().message()), HasSubstr(path + ":1: "));
  std::remove(path.c_str());
  EXPECT_EQ(Load(path, {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(Load("", {}).ok());
}

TEST(Config, StateDirFollowsSystemd) {
  ::setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two", 1);
  EXPECT_EQ(DefaultStateDir(), "/var/lib/one");
  ::unsetenv("STATE_DIRECTORY");
  EXPECT_THAT(DefaultStateDir(), testing::EndsWith("/sma"));
}

}  // namespace
}  // namespace sma::config
