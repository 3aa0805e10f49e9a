// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "cli/testing/app_fixture.h"

namespace sma::cli {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;

using CommandsTest = AppTest;

TEST_F(CommandsTest, CreateNvmfTcp) {
  EXPECT_EQ(Smactl({"device", "create", "nvmf-tcp", "--nqn", "nqn.x:1", "--traddr", "192.0.2.1",
                    "--host", "nqn.h:1", "--host", "nqn.h:2"}),
            0)
      << err_;
  EXPECT_EQ(out_, "nvmf-tcp:nqn.x:1\n");
  EXPECT_TRUE(Equals(agent_->create_device,
                     R"(nvmf_tcp { subnqn: "nqn.x:1" adrfam: "ipv4" traddr: "192.0.2.1"
                        trsvcid: "4420" hosts: "nqn.h:1" hosts: "nqn.h:2" })"));

  EXPECT_EQ(Smactl({"device", "create", "nvmf-tcp", "--nqn=nqn.x:2", "--traddr=2001:db8::1",
                    "--trsvcid=4421", "--allow-any-host", "--json"}),
            0);
  EXPECT_EQ(json::parse(out_), json({{"handle", "nvmf-tcp:nqn.x:1"}}));
  EXPECT_TRUE(Equals(agent_->create_device,
                     R"(nvmf_tcp { subnqn: "nqn.x:2" adrfam: "ipv6" traddr: "2001:db8::1"
                        trsvcid: "4421" allow_any_host: true })"));
}

TEST_F(CommandsTest, CreateWithAVolume) {
  EXPECT_EQ(Smactl({"device", "create", "nvmf-tcp", "--nqn", "n", "--traddr", "192.0.2.1",
                    "--volume", kVolume, "--discovery", "tcp:192.0.2.10:8009"}),
            0)
      << err_;
  EXPECT_EQ(agent_->create_device.volume().volume_id(), VolumeId());
  EXPECT_EQ(agent_->create_device.volume().nvmf().discovery().discovery_endpoints_size(), 1);
  EXPECT_EQ(Smactl({"device", "create", "nvmf-tcp", "--nqn", "n", "--traddr", "192.0.2.1",
                    "--discovery", "tcp:192.0.2.10:8009"}),
            3);
  EXPECT_EQ(Smactl({"device", "create", "nvmf-tcp", "--nqn", "n", "--traddr", "192.0.2.1",
                    "--volume", ""}),
            3);
}

TEST_F(CommandsTest, CreatePciDevices) {
  EXPECT_EQ(Smactl({"device", "create", "nvme", "--physical-id", "3", "--virtual-id", "1"}), 0);
  EXPECT_TRUE(Equals(agent_->create_device, "nvme { physical_id: 3 virtual_id: 1 }"));
  EXPECT_EQ(Smactl({"device", "create", "virtio-blk", "--physical-id", "33", "--volume", kVolume}),
            0);
  EXPECT_EQ(agent_->create_device.virtio_blk().physical_id(), 33u);
  EXPECT_EQ(agent_->create_device.volume().volume_id(), VolumeId());

  EXPECT_EQ(Smactl({"device", "create", "virtio-blk", "--physical-id", "33"}), 3);
  EXPECT_EQ(err_,
            "smactl: INVALID_ARGUMENT: --volume is required\n"
            "See 'smactl device create virtio-blk --help'.\n");
  for (const char* id : {"-1", "4294967296", "1x", ""}) {
    EXPECT_EQ(Smactl({"device", "create", "nvme", "--physical-id", id}), 3) << id;
  }
}

TEST_F(CommandsTest, DeleteDevice) {
  EXPECT_EQ(Smactl({"device", "delete", "nvme:nqn.2016-06.io.spdk:vfiouser-3"}), 0);
  EXPECT_EQ(out_, "nvme:nqn.2016-06.io.spdk:vfiouser-3 deleted\n");
  EXPECT_EQ(agent_->delete_device.handle(), "nvme:nqn.2016-06.io.spdk:vfiouser-3");
  agent_->has_objects = false;
  EXPECT_EQ(Smactl({"device", "delete", "nvme:typo"}), 0);
  EXPECT_EQ(out_, "there was no device nvme:typo\n");
  EXPECT_EQ(agent_->delete_device.handle(), "nvme:typo") << "called nevertheless";
}

TEST_F(CommandsTest, DetachSaysWhatWasNotAttached) {
  EXPECT_EQ(Smactl({"volume", "detach", "nvmf-tcp:nqn.x:1", kVolume}), 0);
  EXPECT_EQ(out_, std::string(kVolume) + " detached from nvmf-tcp:nqn.x:1\n");
  EXPECT_EQ(Smactl({"volume", "detach", "other", kVolume}), 0);
  EXPECT_EQ(out_, std::string(kVolume) +
                      " was not attached to other, it is attached to nvmf-tcp:nqn.x:1\n");
  agent_->has_objects = false;
  EXPECT_EQ(Smactl({"volume", "detach", "other", kVolume}), 0);
  EXPECT_EQ(out_, std::string(kVolume) + " was not attached to other\n");
  EXPECT_EQ(agent_->detach_volume.device_handle(), "other") << "called nevertheless";
}

TEST_F(CommandsTest, AttachAndDetach) {
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume}), 0);
  EXPECT_EQ(out_, std::string(kVolume) + " attached to h\n");
  EXPECT_EQ(agent_->attach_volume.device_handle(), "h");
  EXPECT_EQ(agent_->attach_volume.volume().volume_id(), VolumeId());
  EXPECT_FALSE(agent_->attach_volume.volume().has_nvmf());
  EXPECT_FALSE(agent_->attach_volume.volume().has_crypto());

  EXPECT_EQ(Smactl({"volume", "attach", "--discovery", "TCP:192.0.2.10:8009", "--discovery",
                    "tcp:[2001:db8::1]:4420", "--subnqn", "s", "--hostnqn", "q", "h", kVolume}),
            0)
      << err_;
  EXPECT_TRUE(Equals(agent_->attach_volume.volume().nvmf(), R"(subnqn: "s" hostnqn: "q" discovery {
         discovery_endpoints { trtype: "TCP" traddr: "192.0.2.10" trsvcid: "8009" }
         discovery_endpoints { trtype: "tcp" traddr: "2001:db8::1" trsvcid: "4420" } })"));

  EXPECT_EQ(Smactl({"volume", "detach", "h", kVolume, "--json"}), 0);
  EXPECT_EQ(json::parse(out_), json::object());
  EXPECT_EQ(agent_->detach_volume.device_handle(), "h");
  EXPECT_EQ(agent_->detach_volume.volume_id(), VolumeId());

  EXPECT_EQ(Smactl({"volume", "attach", "h", "no-uuid"}), 3);
  EXPECT_EQ(err_, "smactl: INVALID_ARGUMENT: volume 'no-uuid' is not a UUID\n");
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--subnqn", "s"}), 3);
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--discovery", "192.0.2.10:8009"}), 3);
}

TEST_F(CommandsTest, AttachDirectly) {
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--direct", "tcp:192.0.2.10:4420", "--direct",
                    "tcp:192.0.2.11:4420", "--subnqn", "s"}),
            0)
      << err_;
  EXPECT_TRUE(Equals(agent_->attach_volume.volume().nvmf(), R"(subnqn: "s" direct {
         addresses { trtype: "tcp" traddr: "192.0.2.10" trsvcid: "4420" }
         addresses { trtype: "tcp" traddr: "192.0.2.11" trsvcid: "4420" } })"));
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--direct", "tcp:192.0.2.10:4420"}), 3);
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--direct", "tcp:192.0.2.10:4420",
                    "--discovery", "tcp:192.0.2.10:8009", "--subnqn", "s"}),
            3);
}

TEST_F(CommandsTest, AttachByIscsi) {
  const std::string secret = WriteFile("secret", "secretsecret\n");
  std::vector<std::string> arguments{"volume",
                                     "attach",
                                     "h",
                                     kVolume,
                                     "--iscsi",
                                     "192.0.2.10",
                                     "--target-iqn",
                                     "iqn.2024-01.t:d",
                                     "--lun",
                                     "2",
                                     "--initiator-iqn",
                                     "iqn.2024-01.i",
                                     "--chap-user",
                                     "u"};
  EXPECT_EQ(Smactl(arguments), 3);
  arguments.insert(arguments.end(), {"--chap-secret-file", secret});
  EXPECT_EQ(Smactl(arguments), 0) << err_;
  EXPECT_TRUE(Equals(agent_->attach_volume.volume().iscsi(),
                     R"(portal: "192.0.2.10" target_iqn: "iqn.2024-01.t:d" lun: 2
                        initiator_iqn: "iqn.2024-01.i"
                        chap { user: "u" secret: "secretsecret" })"));
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--lun", "1"}), 3);
  arguments.insert(arguments.end(), {"--discovery", "tcp:192.0.2.10:8009"});
  EXPECT_EQ(Smactl(arguments), 3);
}

TEST_F(CommandsTest, Keys) {
  const std::string path = WriteFile("key", "00112233\nAAbbccdd\n");
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--key-file", path, "--tweak-mode",
                    "incr-512-full-lba"}),
            0)
      << err_;
  EXPECT_TRUE(Equals(agent_->attach_volume.volume().crypto(),
                     R"(key: "00112233" key2: "AAbbccdd" cipher: AES_XTS
                        tweak_mode: TWEAK_MODE_INCR_512_FULL_LBA)"));
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--key-file", "-", "--cipher", "AES_CBC"},
                   "0011\n"),
            0);
  EXPECT_TRUE(Equals(agent_->attach_volume.volume().crypto(), R"(key: "0011" cipher: AES_CBC)"));

  for (const char* bad : {"", "\n", "00 11 22", "0g", "012"}) {
    EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--key-file", "-"}, bad), 3) << bad;
    if (*bad == '0') {
      EXPECT_THAT(err_, testing::Not(HasSubstr(bad)));
    }
  }
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--key-file", path + "x"}), 3);
  EXPECT_THAT(err_, HasSubstr("No such file"));
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--cipher", "aes-xts"}), 3);
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--key-file", path, "--cipher", "des"}), 3);
  EXPECT_EQ(Smactl({"volume", "attach", "h", kVolume, "--key-file", path, "--tweak-mode", "x"}), 3);
}

TEST_F(CommandsTest, SetQos) {
  EXPECT_EQ(Smactl({"qos", "set", "h", kVolume, "--rw-iops", "5k", "--read-bw", "200M", "--wr-bw",
                    "unlimited"}),
            0)
      << err_;
  EXPECT_EQ(agent_->set_qos.device_handle(), "h");
  EXPECT_EQ(agent_->set_qos.volume_id(), VolumeId());
  const sma::QosLimit& limits = agent_->set_qos.maximum();
  EXPECT_EQ(limits.rd_iops(), kKeep);
  EXPECT_EQ(limits.wr_iops(), kKeep);
  EXPECT_EQ(limits.rw_iops(), 5u);
  EXPECT_EQ(limits.rd_bandwidth(), 200u);
  EXPECT_EQ(limits.wr_bandwidth(), 0u);
  EXPECT_EQ(limits.rw_bandwidth(), kKeep);

  EXPECT_EQ(Smactl({"qos", "set", "h", "--wr-iops", "1.5M"}), 0);
  EXPECT_THAT(agent_->set_qos.volume_id(), IsEmpty());
  EXPECT_EQ(agent_->set_qos.maximum().wr_iops(), 1500u);

  EXPECT_EQ(Smactl({"qos", "set", "h"}), 3);
  EXPECT_EQ(Smactl({"qos", "set", "h", "--rw-iops", "1500"}), 3);
  EXPECT_EQ(err_,
            "smactl: INVALID_ARGUMENT: --rw-iops: '1500' is not a multiple of 1k (1000 I/Os per "
            "second)\n");
  EXPECT_EQ(Smactl({"qos", "set", "h", "--rw-bw", "200"}), 3);
  EXPECT_EQ(Smactl({"qos", "set", "h", "--rw-iops", "18446744073709551615k"}), 3);
  EXPECT_THAT(err_, HasSubstr("too large"));
}

TEST_F(CommandsTest, GetQos) {
  EXPECT_EQ(Smactl({"qos", "get", "nvmf-tcp:nqn.x:1", kVolume}), 0) << err_;
  EXPECT_EQ(agent_->get_volume.volume_id(), VolumeId());
  EXPECT_EQ(out_,
            "LIMIT    PER SECOND\n"
            "rd-iops  unlimited\n"
            "wr-iops  unlimited\n"
            "rw-iops  5k\n"
            "rd-bw    unlimited\n"
            "wr-bw    unlimited\n"
            "rw-bw    unlimited\n");
  EXPECT_EQ(Smactl({"qos", "get", "other", kVolume}), 3);
  EXPECT_EQ(Smactl({"--json", "qos", "get", "h"}), 0);
  EXPECT_EQ(agent_->get_device.handle(), "h");
  EXPECT_EQ(json::parse(out_), json({{"rd_bandwidth", "200"}}));
}

TEST_F(CommandsTest, QosCapabilities) {
  EXPECT_EQ(Smactl({"qos", "capabilities", "nvmf-tcp"}), 0);
  EXPECT_EQ(agent_->get_qos_capabilities.device_type(), sma::DEVICE_TYPE_NVMF_TCP);
  EXPECT_THAT(out_, HasSubstr("LIMIT    DEVICE  VOLUME\n"));
  EXPECT_THAT(out_, HasSubstr("rw-iops  no      yes\n"));
  EXPECT_THAT(out_, HasSubstr("rd-bw    yes     no\n"));
  EXPECT_EQ(Smactl({"qos", "capabilities", "floppy"}), 3);
}

TEST_F(CommandsTest, Call) {
  EXPECT_EQ(Smactl({"call", "CreateDevice"},
                   R"({"params": {"nvmf_tcp": {"subnqn": "n", "allow_any_host": true},
                       "volume": {"volume_id": "L0yKDmoMTwuaWA0vHTx7EQ=="}}})"),
            0)
      << err_;
  EXPECT_EQ(json::parse(out_), json({{"handle", "nvmf-tcp:nqn.x:1"}}));
  EXPECT_TRUE(agent_->create_device.nvmf_tcp().allow_any_host());
  EXPECT_EQ(agent_->create_device.volume().volume_id(), VolumeId());

  EXPECT_EQ(Smactl({"call"}, R"({"method": "SetQos", "params": {"device_handle": "h",
                                 "maximum": {"rw_iops": 18446744073709551615}}})"),
            0)
      << err_;
  EXPECT_EQ(json::parse(out_), json::object());
  EXPECT_EQ(agent_->set_qos.maximum().rw_iops(), kKeep);

  EXPECT_EQ(Smactl({"call", "GetDevice"}, R"({"params": {"handle": "h"}})"), 0);
  EXPECT_EQ(json::parse(out_), json({{"qos", {{"rd_bandwidth", "200"}}}}));
  EXPECT_EQ(Smactl({"call", "DeleteDevice"}, "{}"), 0);
  EXPECT_EQ(Smactl({"call", "DeleteDevice"}, R"({"handle": "alone"})"), 0) << err_;
  EXPECT_EQ(agent_->delete_device.handle(), "alone");
}

TEST_F(CommandsTest, CallRejects) {
  for (const char* input :
       {"", "x", "[]", "{}", R"({"method": "Nope"})", R"({"method": "Watch"})", R"({"method": 1})",
        R"({"method": "SetQos", "params": []})", R"({"method": "SetQos", "more": 1})",
        R"({"method": "SetQos", "params": {"no_such_field": 1}})",
        R"({"method": "SetQos", "params": {"volume_id": "%%%"}})",
        R"({"method": "SetQos", "params": {"device_handle": 1}})"}) {
    EXPECT_EQ(Smactl({"call"}, input), 3) << input;
    EXPECT_THAT(err_, HasSubstr("smactl: INVALID_ARGUMENT: ")) << input;
  }
  EXPECT_EQ(Smactl({"call", "SetQos"}, R"({"method": "DeleteDevice"})"), 3);
}

}  // namespace
}  // namespace sma::cli
