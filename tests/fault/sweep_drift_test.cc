// SPDX-License-Identifier: Apache-2.0

// Tests the removal, by an operator, of objects that the agent has created on the target or in the
// VM. The agent detects the removal within a period, reports it, and recreates the objects unless
// it is configured only to report drift.

#include <gtest/gtest.h>

#include <fmt/format.h>

#include "fault/sweep_fixture.h"

namespace sma::core {
namespace {

using jsonrpc::Json;

class SweepDriftTest : public SweepFixture {
 protected:
  struct Damage {
    std::string name;
    std::function<void()> done;
  };

  // Returns the objects that can be removed from device 0 with volume 1, which has limits.
  std::vector<Damage> Damages() {
    std::vector<Damage> damages = GroupsOwn();
    damages.push_back(
        {"limits", [this] {
           Operator("bdev_set_qos_limit", {{"name", BdevOf(1)}, {"rw_ios_per_sec", 0}});
         }});
    damages.push_back(
        {"other limits", [this] {
           Operator("bdev_set_qos_limit", {{"name", BdevOf(1)}, {"rw_ios_per_sec", 9000}});
         }});
    if (GetParam() == Group::kVhostBlk) {
      damages.push_back({"device in the machine", [this] { qemu().RemoveByHand("sma-0"); }});
      damages.push_back({"vhost controller", [this] {
                           qemu().RemoveByHand("sma-0");
                           Operator("vhost_delete_controller", {{"ctrlr", "sma-0"}});
                         }});
      return damages;
    }
    const std::string nqn = DeviceNqn();
    damages.push_back({"subsystem", [this, nqn] {
                         Operator("nvmf_delete_subsystem", {{"nqn", nqn}});
                       }});
    damages.push_back({"namespace", [this, nqn] {
                         Operator("nvmf_subsystem_remove_ns", {{"nqn", nqn}, {"nsid", 1}});
                       }});
    damages.push_back(
        {"listener", [this, nqn] {
           const Json found = *target_.Operator("nvmf_get_subsystems", {{"nqn", nqn}});
           Operator("nvmf_subsystem_remove_listener",
                    {{"nqn", nqn}, {"listen_address", found[0]["listen_addresses"][0]}});
         }});
    if (GetParam() == Group::kVfioUser) {
      damages.push_back({"device in the machine", [this] { qemu().RemoveByHand("vfiouser-0"); }});
    } else {
      damages.push_back({"host", [this, nqn] {
                           Operator("nvmf_subsystem_remove_host",
                                    {{"nqn", nqn}, {"host", "nqn.2016-06.io.spdk:host0"}});
                         }});
    }
    return damages;
  }

  void Begin(bool repair, const Operation& operation) {
    options_.drift_period = std::chrono::milliseconds(2);
    options_.repair_drift = repair;
    SweepFixture::Begin(operation);
  }

 private:
  std::string BdevOf(int volume) {
    return core_->record().FindVolume(*base::Uuid::Parse(VolumeUuid(volume)))->bdev_name;
  }
  std::string DeviceNqn() const {
    return GetParam() == Group::kVfioUser ? "nqn.2016-06.io.spdk:vfiouser-0" : Nqn(0);
  }
  std::vector<Damage> GroupsOwn() {
    const Group group = GetParam();
    std::vector<Damage> damages;
    if (group == Group::kDiscovery || group == Group::kEncryptedRemote) {
      damages.push_back({"discovery service", [this] {
                           const Json services = *target_.Operator("bdev_nvme_get_discovery_info");
                           for (const Json& service : services) {
                             const std::string name = service["name"];
                             if (name == "operators-service") continue;
                             Operator("bdev_nvme_stop_discovery", {{"name", name}});
                           }
                         }});
    }
    if (group == Group::kDirect) {
      damages.push_back({"controller", [this] {
                           const Json controllers = *target_.Operator("bdev_nvme_get_controllers");
                           for (const Json& controller : controllers) {
                             const std::string name = controller["name"];
                             if (name.starts_with("operators-")) continue;
                             Operator("bdev_nvme_detach_controller", {{"name", name}});
                           }
                         }});
    }
    if (group == Group::kIscsi) {
      damages.push_back({"iSCSI bdev", [this] {
                           Operator("bdev_iscsi_delete", {{"name", VolumeUuid(1)}});
                         }});
    }
    if (group == Group::kEncrypted || group == Group::kEncryptedRemote) {
      damages.push_back({"crypto bdev", [this] {
                           Operator("bdev_crypto_delete", {{"name", BdevOf(1)}});
                         }});
    }
    return damages;
  }
};

TEST_P(SweepDriftTest, RemovedObjectsAreRecreated) {
  const Operation with_limits = DeviceWithLimits();
  for (const Damage& damage : Damages()) {
    Begin(/*repair=*/true, with_limits);
    const State before = Now();
    damage.done();
    WaitFor([&] { return Now() == before; });
  }
}

TEST_P(SweepDriftTest, RemovedObjectsAreOnlyReported) {
  const Operation with_limits = DeviceWithLimits();
  for (const Damage& damage : Damages()) {
    Begin(/*repair=*/false, with_limits);
    damage.done();
    const std::set<std::string> broken = target_.Inventory();
    WaitFor([&] { return core_->admin().GetStatus(context_, {})->degraded_count() > 0; });
    EXPECT_EQ(target_.Inventory(), broken) << damage.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Groups, SweepDriftTest,
                         testing::Values(Group::kLocal, Group::kDiscovery, Group::kDirect,
                                         Group::kIscsi, Group::kEncrypted, Group::kEncryptedRemote,
                                         Group::kVhostBlk, Group::kVfioUser),
                         [](const auto& group) { return Name(group.param); });

}  // namespace
}  // namespace sma::core
