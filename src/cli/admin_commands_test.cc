// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "cli/testing/app_fixture.h"

namespace sma::cli {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

using AdminCommandsTest = AppTest;

constexpr char kError[] = R"(last_error { code: 14 message: "gone\x1b[2J" time { seconds: 60 } })";

TEST_F(AdminCommandsTest, DeviceListFollowsPages) {
  agent_->devices = {
      Parse<admin::v1::Device>(R"(handle: "nvmf-tcp:nqn.x:1" type: DEVICE_TYPE_NVMF_TCP
          state: STATE_READY state_since { seconds: 1700000000 nanos: 5 } volume_ids: "x")"),
      Parse<admin::v1::Device>(R"(handle: "virtio_blk:sma-0" type: DEVICE_TYPE_VIRTIO_BLK
          state: STATE_KEY_NEEDED)")};
  ASSERT_EQ(Smactl({"device", "list"}), 0) << err_;
  EXPECT_EQ(out_,
            "HANDLE            TYPE        STATE       VOLUMES  SINCE\n"
            "nvmf-tcp:nqn.x:1  nvmf-tcp    ready       1        2023-11-14T22:13:20Z\n"
            "virtio_blk:sma-0  virtio-blk  key needed  0        -\n");

  ASSERT_EQ(Smactl({"device", "list", "--json", "--type", "nvmf-tcp"}), 0) << err_;
  EXPECT_EQ(agent_->list_devices.type(), DEVICE_TYPE_NVMF_TCP);
  const json all = json::parse(out_);
  EXPECT_EQ(all["devices"].size(), 2u);
  EXPECT_FALSE(all.contains("next_page_token"));
  EXPECT_EQ(Smactl({"device", "list", "--type", "floppy"}), 3);

  agent_->status = grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "no");
  EXPECT_EQ(Smactl({"device", "list"}), 7);
}

TEST_F(AdminCommandsTest, ColoursAreForTerminals) {
  agent_->devices = {Parse<admin::v1::Device>(R"(handle: "a" state: STATE_READY)"),
                     Parse<admin::v1::Device>(R"(handle: "b" state: STATE_DEGRADED)")};
  ASSERT_EQ(Smactl({"device", "list"}), 0);
  EXPECT_THAT(out_, Not(HasSubstr("\x1b")));
  const std::string plain = out_;
  use_colour_ = true;
  ASSERT_EQ(Smactl({"device", "list"}), 0);
  EXPECT_THAT(out_, HasSubstr("\x1b[32mready\x1b[0m     "));
  EXPECT_THAT(out_, HasSubstr("\x1b[31mdegraded\x1b[0m  "));
  ASSERT_EQ(Smactl({"device", "list", "--json"}), 0);
  EXPECT_THAT(out_, Not(HasSubstr("\x1b")));
}

TEST_F(AdminCommandsTest, DeviceShow) {
  agent_->device = Parse<admin::v1::Device>(
      R"(handle: "nvmf-tcp:nqn.x:1" type: DEVICE_TYPE_NVMF_TCP manager: "nvmf_tcp"
         state: STATE_DEGRADED state_since { seconds: 60 } created { seconds: 30 }
         nvmf_tcp { subnqn: "nqn.x:1" adrfam: "ipv4" traddr: "192.0.2.1" trsvcid: "4420"
                    hosts: "nqn.h:1" hosts: "nqn.h:2" } )" +
      std::string(kError));
  agent_->device.add_volume_ids(VolumeId());
  ASSERT_EQ(Smactl({"device", "show", "nvmf-tcp:nqn.x:1"}), 0) << err_;
  EXPECT_EQ(agent_->get_device.handle(), "nvmf-tcp:nqn.x:1");
  EXPECT_EQ(out_,
            "handle      nvmf-tcp:nqn.x:1\n"
            "type        nvmf-tcp\n"
            "manager     nvmf_tcp\n"
            "state       degraded\n"
            "since       1970-01-01T00:01:00Z\n"
            "created     1970-01-01T00:00:30Z\n"
            "subnqn      nqn.x:1\n"
            "adrfam      ipv4\n"
            "traddr      192.0.2.1\n"
            "trsvcid     4420\n"
            "hosts       nqn.h:1\n"
            "            nqn.h:2\n"
            "volume      2f4c8a0e-6a0c-4f0b-9a58-0d2f1d3c7b11\n"
            "rd-bw       200M\n"
            "last error  UNAVAILABLE: gone\\x1b[2J (1970-01-01T00:01:00Z)\n");
}

TEST_F(AdminCommandsTest, VolumeListAndShow) {
  agent_->volume = Parse<admin::v1::Volume>(
      R"(state: STATE_READY bdev: "b0" state_since { seconds: 60 } attached { seconds: 60 }
         nvmf { subnqn: "nqn.s" discovery { discovery_endpoints { trtype: "tcp"
                traddr: "192.0.2.7" trsvcid: "8009" } } }
         encryption { cipher: AES_XTS })");
  agent_->volume.set_volume_id(VolumeId());
  agent_->volumes = {agent_->volume, agent_->volume};
  agent_->volumes[1].clear_nvmf();
  agent_->volumes[1].clear_encryption();
  ASSERT_EQ(Smactl({"volume", "list", "--device", "d"}), 0) << err_;
  EXPECT_EQ(agent_->list_volumes.device_handle(), "d");
  EXPECT_THAT(out_, HasSubstr("  ready  nvmf        aes-xts  1970-01-01T00:01:00Z\n"));
  EXPECT_THAT(out_, HasSubstr("  ready  local       -        1970-01-01T00:01:00Z\n"));
  ASSERT_EQ(Smactl({"volume", "list", "--json"}), 0);
  EXPECT_EQ(json::parse(out_)["volumes"].size(), 2u);

  ASSERT_EQ(Smactl({"volume", "show", kVolume}), 0) << err_;
  EXPECT_EQ(agent_->get_volume.volume_id(), VolumeId());
  EXPECT_THAT(out_, HasSubstr("volume               " + std::string(kVolume) + "\n"));
  EXPECT_THAT(out_, HasSubstr("connection           nvmf\nsubnqn               nqn.s\n"));
  EXPECT_THAT(out_, HasSubstr("discovery_endpoints  tcp:192.0.2.7:8009\n"));
  EXPECT_THAT(out_, HasSubstr("cipher               aes-xts\nrw-iops              5k\n"));
  EXPECT_EQ(Smactl({"volume", "show", "x"}), 3);
}

TEST_F(AdminCommandsTest, Status) {
  agent_->agent_status = Parse<admin::v1::Status>(
      R"(version: "1.2" serving: true started { seconds: 60 } device_count: 3 volume_count: 4
         target { socket: "/var/tmp/spdk.sock" connected: true version: "SPDK v26.09"
                  reconnects: 2 embedded: true since { seconds: 60 } }
         restore { active: true total: 3 done: 1 failed: 1 })");
  ASSERT_EQ(Smactl({"status"}), 0) << err_;
  EXPECT_EQ(out_,
            "agent           serving\n"
            "version         1.2\n"
            "started         1970-01-01T00:01:00Z\n"
            "target          connected\n"
            "target since    1970-01-01T00:01:00Z\n"
            "target version  SPDK v26.09\n"
            "target socket   /var/tmp/spdk.sock (embedded)\n"
            "reconnects      2\n"
            "restore         1 of 3 devices, 1 failed\n"
            "devices         3\n"
            "volumes         4\n"
            "not ready       0\n");
  ASSERT_EQ(Smactl({"status", "--json"}), 0);
  EXPECT_EQ(json::parse(out_)["target"]["version"], "SPDK v26.09");
}

TEST_F(AdminCommandsTest, PluginList) {
  agent_->plugins = Parse<admin::v1::ListPluginsResponse>(
      R"(plugins { name: "nvmf_tcp" kind: KIND_BUILT_IN role: ROLE_DEVICE protocol: "nvmf_tcp"
                   enabled: true }
         plugins { name: "mine" kind: KIND_PYTHON role: ROLE_CRYPTO_ENGINE source: "a.py"
                   error: "line 3: no such module" })");
  ASSERT_EQ(Smactl({"plugin", "list"}), 0) << err_;
  EXPECT_EQ(out_,
            "NAME      ROLE           KIND      PROTOCOL  STATE    SOURCE\n"
            "nvmf_tcp  device         built-in  nvmf_tcp  enabled  -\n"
            "mine      crypto-engine  python    -         failed   a.py\n"
            "\nmine: line 3: no such module\n");
}

TEST_F(AdminCommandsTest, WatchPrintsALineForEachChange) {
  agent_->changes = {
      Parse<admin::v1::WatchResponse>(
          R"(time { seconds: 60 } device { handle: "h" state: STATE_READY })"),
      Parse<admin::v1::WatchResponse>(R"(time { seconds: 60 } synced {})"),
      Parse<admin::v1::WatchResponse>(R"(time { seconds: 60 } device_removed: "h")"),
      Parse<admin::v1::WatchResponse>(R"(time { seconds: 60 } status { target { socket: "s" } })")};
  agent_->status = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too slow");
  EXPECT_EQ(Smactl({"watch", "--initial-state", "--device", "h"}), 8);
  EXPECT_TRUE(agent_->watch.initial_state());
  EXPECT_EQ(agent_->watch.device_handle(), "h");
  EXPECT_EQ(out_,
            "1970-01-01T00:01:00Z  device  h  ready\n"
            "1970-01-01T00:01:00Z  sync    initial state  complete\n"
            "1970-01-01T00:01:00Z  device  h  removed\n"
            "1970-01-01T00:01:00Z  target  s  not connected, all states are unknown\n");

  // It is not an error if the time given with --for passes, and --timeout does not apply to a
  // watch.
  agent_->hold_watch = true;
  EXPECT_EQ(Smactl({"watch", "--for", "200ms", "--timeout", "1ms", "--json"}), 0) << err_;
  std::istringstream lines(out_);
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(json::parse(line)["device"]["handle"], "h");
  agent_.reset();
  EXPECT_EQ(Smactl({"watch"}), 14);
}

TEST_F(AdminCommandsTest, WatchPrintsReasonsAndNoLineTwice) {
  const char* degraded = R"(time { seconds: 60 } device { handle: "h" state: STATE_DEGRADED
      last_error { code: 14 message: "no node" } })";
  agent_->changes = {
      Parse<admin::v1::WatchResponse>(degraded), Parse<admin::v1::WatchResponse>(degraded),
      Parse<admin::v1::WatchResponse>(
          R"(time { seconds: 60 } device { handle: "h" state: STATE_DEGRADED
                            conditions { type: "OnTarget" status: STATUS_FALSE message: "why" } })"),
      Parse<admin::v1::WatchResponse>(R"(time { seconds: 60 } device_removed: "h")"),
      Parse<admin::v1::WatchResponse>(R"(time { seconds: 60 } device_removed: "h")")};
  EXPECT_EQ(Smactl({"watch"}), 0) << err_;
  EXPECT_EQ(out_,
            "1970-01-01T00:01:00Z  device  h  degraded  UNAVAILABLE: no node\n"
            "1970-01-01T00:01:00Z  device  h  degraded  why\n"
            "1970-01-01T00:01:00Z  device  h  removed\n"
            "1970-01-01T00:01:00Z  device  h  removed\n");
}

constexpr char kCandidates[] = R"(
    candidates { handle: "nvmf-tcp:nqn.x:1" type: DEVICE_TYPE_NVMF_TCP
                 nvmf_tcp { subnqn: "nqn.x:1" }
                 volumes { volume_id: "0123456789abcdef" bdev: "b0" } }
    candidates { handle: "nvmf-tcp:nqn.x:2" type: DEVICE_TYPE_NVMF_TCP obstacle: "two listeners" })";

TEST_F(AdminCommandsTest, AdoptShowsWhatCouldBeAdopted) {
  agent_->candidates = Parse<admin::v1::ListAdoptionCandidatesResponse>(kCandidates);
  ASSERT_EQ(Smactl({"device", "adopt"}), 0) << err_;
  EXPECT_EQ(out_,
            "HANDLE            TYPE      VOLUMES  ADOPTION\n"
            "nvmf-tcp:nqn.x:1  nvmf-tcp  1        possible\n"
            "nvmf-tcp:nqn.x:2  nvmf-tcp  0        two listeners\n");
  EXPECT_TRUE(agent_->adopted.empty());
}

TEST_F(AdminCommandsTest, AdoptAsksFirst) {
  agent_->candidates = Parse<admin::v1::ListAdoptionCandidatesResponse>(kCandidates);
  EXPECT_EQ(Smactl({"device", "adopt", "nvmf-tcp:nqn.x:1"}, ""), 10);
  EXPECT_EQ(Smactl({"device", "adopt", "nvmf-tcp:nqn.x:1"}, "n\n"), 10);
  EXPECT_TRUE(agent_->adopted.empty());
  EXPECT_EQ(Smactl({"device", "adopt", "nvmf-tcp:nqn.x:1"}, "y\n"), 0) << err_;
  EXPECT_EQ(out_, "nvmf-tcp:nqn.x:1 adopted\n");
  EXPECT_THAT(err_, HasSubstr("volume  30313233-3435-3637-3839-616263646566 (bdev b0)\n"));
  ASSERT_EQ(agent_->adopted.size(), 1u);
  EXPECT_TRUE(
      Equals(agent_->adopted[0], R"(handle: "nvmf-tcp:nqn.x:1" volume_ids: "0123456789abcdef")"));

  EXPECT_EQ(Smactl({"device", "adopt", "--all", "--yes"}), 0) << err_;
  EXPECT_EQ(agent_->adopted.size(), 2u);
  EXPECT_EQ(Smactl({"device", "adopt", "--all", "h"}), 3);
}

TEST_F(AdminCommandsTest, AdoptOfWhatIsInTheRecordIsASuccess) {
  EXPECT_EQ(Smactl({"device", "adopt", "nvmf-tcp:nqn.x:3"}), 0) << err_;
  EXPECT_EQ(agent_->get_device.handle(), "nvmf-tcp:nqn.x:3");
  EXPECT_TRUE(agent_->adopted.empty());
}

}  // namespace
}  // namespace sma::cli
