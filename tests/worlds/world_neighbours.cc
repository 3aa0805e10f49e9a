// SPDX-License-Identifier: Apache-2.0

// Executes the actions of an operator, the storage nodes and the VM in a world.

#include <fmt/format.h>

#include <stdexcept>

#include "worlds/step_words.h"
#include "worlds/world.h"

namespace sma::worlds {

using jsonrpc::Json;

namespace {

constexpr char kOperatorsHost[] = "nqn.2016-06.io.spdk:operators-host";

Json Listener(int port) {
  return {{"trtype", "TCP"},
          {"adrfam", "IPv4"},
          {"traddr", "127.0.0.1"},
          {"trsvcid", std::to_string(port)}};
}

// Returns a disk that only the operator uses.
std::string OperatorsDisk(int number) { return "local-" + UuidOf(90 + number); }
std::string ClaimNqn(int volume) { return fmt::format("nqn.2016-06.io.spdk:operators-{}", volume); }

}  // namespace

void World::Op(const std::string& method, Json params) {
  auto answer = target_->Operator(method, std::move(params));
  // An operator's call may also fail, in which case it has changed nothing.
  static_cast<void>(answer.ok());
}

// Executes "op subsystem DEV" and "op copy DEV [VOL]": creates a complete subsystem with the
// device's NQN.
void World::MakeSubsystem(const Words& words) {
  const int n = NumberAt(words, 2);
  const std::string nqn = NqnOf(n);
  const bool is_copy = words[1] == "copy";
  // An adopted subsystem has no mark of the agent: recreated exactly by the agent that it was
  // adopted from, it is the same one, which that agent no longer manages.
  if (is_copy && devices_[n].is_adopted && devices_[n].is_there != Known::kNo) return;
  // The operator does not add objects to an existing subsystem.
  if (target_->With([&](SimSpdk& spdk) { return spdk.subsystems.contains(nqn); })) return;
  Op("nvmf_create_transport", {{"trtype", "TCP"}});
  Op("nvmf_create_subsystem",
     {{"nqn", nqn}, {"allow_any_host", is_copy && n == 3}, {"ana_reporting", true}});
  if (!is_copy || n != 3) {
    Op("nvmf_subsystem_add_host",
       {{"nqn", nqn}, {"host", is_copy ? HostOf(n) : std::string(kOperatorsHost)}});
  }
  Op("nvmf_subsystem_add_listener",
     {{"nqn", nqn}, {"listen_address", Listener(is_copy ? 4420 + n : 4499)}});
  const int volume = NumberAt(words, 3);
  std::string bdev = volume != 0 ? UuidOf(volume) : OperatorsDisk(n % 4);
  if (volume != 0 && IsEncrypted(volume)) {
    const VolumeCryptoParameters keys = VolumeRequest(volume, "").crypto();
    Op("accel_crypto_key_create",
       {{"name", "others-" + UuidOf(volume)},
        {"cipher", "AES_XTS"},
        {"key", keys.key()},
        {"key2", keys.key2()},
        {"tweak_mode", volume == 10 ? "INCR_512_FULL_LBA" : "SIMPLE_LBA"}});
    Op("bdev_crypto_create", {{"name", "crypto-" + UuidOf(volume)},
                              {"base_bdev_name", "local-" + UuidOf(volume)},
                              {"key_name", "others-" + UuidOf(volume)}});
    bdev = "crypto-" + UuidOf(volume);
  }
  const Json attributes{{"bdev_name", bdev},
                        {"uuid", volume != 0 ? UuidOf(volume) : UuidOf(90 + n % 4)}};
  if (!is_copy || volume != 0) {
    Op("nvmf_subsystem_add_ns", {{"nqn", nqn}, {"namespace", attributes}});
  }
}

// Executes steps that change the device's subsystem. Returns true if `words` is such a step.
bool World::ChangeSubsystem(const Words& words) {
  const std::string& what = words[1];
  const int n = NumberAt(words, 2);
  const std::string nqn = NqnOf(n);
  if (what == "delete") {
    Op("nvmf_delete_subsystem", {{"nqn", nqn}});
  } else if (what == "host") {
    Op("nvmf_subsystem_add_host", {{"nqn", nqn}, {"host", kOperatorsHost}});
  } else if (what == "ns") {
    // The namespace has attributes that the agent's namespaces do not have.
    Json entry{{"bdev_name", OperatorsDisk(4 + n % 4)}, {"anagrpid", 2}};
    if (NumberAt(words, 3) != 0) entry["nsid"] = NumberAt(words, 3);
    if (NumberAt(words, 4) != 0) entry["uuid"] = UuidOf(NumberAt(words, 4));
    Op("nvmf_subsystem_add_ns", {{"nqn", nqn}, {"namespace", std::move(entry)}});
  } else if (what == "raw") {
    const int volume = NumberAt(words, 3);
    Op("nvmf_subsystem_add_ns",
       {{"nqn", nqn},
        {"namespace", {{"bdev_name", "local-" + UuidOf(volume)}, {"uuid", UuidOf(volume)}}}});
  } else if (what == "rmns") {
    const std::string uuid = UuidOf(NumberAt(words, 3));
    uint32_t nsid = target_->With([&](SimSpdk& spdk) {
      auto subsystem = spdk.subsystems.find(nqn);
      if (subsystem == spdk.subsystems.end()) return 0u;
      for (const auto& [number, ns] : subsystem->second.namespaces) {
        if (ns.uuid == uuid) return number;
      }
      return 0u;
    });
    Op("nvmf_subsystem_remove_ns", {{"nqn", nqn}, {"nsid", nsid}});
  } else {
    return false;
  }
  return true;
}

// Executes steps with vhost controllers and with disks. Returns true if `words` is such a step.
bool World::ChangeDisks(const Words& words) {
  const std::string& what = words[1];
  const int n = NumberAt(words, 2);
  if (what == "clear" || what == "cipher") {
    target_->With([&](SimSpdk& spdk) {
      spdk.truth[UuidOf(n)] = TruthOf(n);
      if (what == "clear") spdk.truth[UuidOf(n)].key.clear();
    });
  } else if (what == "limit") {
    Op("bdev_set_qos_limit", {{"name", UuidOf(n)}, {"rw_ios_per_sec", NumberAt(words, 3) * 1000}});
  } else if (what == "claim") {
    Op("nvmf_create_subsystem", {{"nqn", ClaimNqn(n)}});
    Op("nvmf_subsystem_add_ns", {{"nqn", ClaimNqn(n)}, {"namespace", {{"bdev_name", UuidOf(n)}}}});
  } else if (what == "unclaim") {
    Op("nvmf_delete_subsystem", {{"nqn", ClaimNqn(n)}});
  } else if (what == "vhost") {
    const int volume = NumberAt(words, 3);
    Op("vhost_create_blk_controller",
       {{"ctrlr", VhostOf(n)}, {"dev_name", volume != 0 ? UuidOf(volume) : OperatorsDisk(n % 4)}});
  } else if (what == "rmvhost") {
    Op("vhost_delete_controller", {{"ctrlr", VhostOf(n)}});
  } else if (what == "rmdisk") {
    Op("bdev_null_delete", {{"name", "local-" + UuidOf(n)}});
  } else if (what == "disk") {
    std::vector<std::string> ignored;
    const std::map<int, admin::v1::Volume> rows = VolumeRows(ignored);
    target_->With([&](SimSpdk& spdk) { AddDisk(spdk, n, rows); });
  } else if (what == "impostor") {
    target_->With([&](SimSpdk& spdk) { spdk.AddLocalBdev(UuidOf(n), "impostor"); });
  } else {
    return false;
  }
  return true;
}

void World::OperatorStep(const Words& words) {
  const std::string what = WordAt(words, 1);
  const int n = NumberAt(words, 2);
  if (what == "subsystem" || what == "copy") return MakeSubsystem(words);
  if (ChangeSubsystem(words) || ChangeDisks(words)) return;
  if (what == "discover" || what == "control") {
    const NodeAddress address = AddressOf(n, NumberAt(words, 3));
    Json params{{"name", fmt::format("operators-{}-{}", what, address.traddr)},
                {"trtype", "TCP"},
                {"adrfam", "IPv4"},
                {"traddr", address.traddr},
                {"trsvcid", address.trsvcid},
                {"hostnqn", "nqn.2014-08.org.nvmexpress:host"}};
    if (what == "control") params["subnqn"] = SubsystemOf(n);
    Op(what == "control" ? "bdev_nvme_attach_controller" : "bdev_nvme_start_discovery", params);
    target_->With([](SimSpdk& spdk) { spdk.FinishDiscovery(); });
  } else if (what == "stop") {
    const std::string traddr = AddressOf(n, NumberAt(words, 3)).traddr;
    Op("bdev_nvme_stop_discovery", {{"name", "operators-discover-" + traddr}});
  } else {
    throw std::invalid_argument("no such step: op " + what);
  }
}

void World::StorageStep(const Words& words) {
  const std::string& verb = words.front();
  const int volume = NumberAt(words, 1);
  target_->With([&](SimSpdk& spdk) {
    const bool is_iscsi = LocationOf(volume) == Location::kIscsi;
    if (verb == "vanish" || verb == "appear" || verb == "swap") {
      const std::string node = LocationOf(volume) == Location::kNodeA ? "a" : "b";
      const Storage whole = MakeStorage();
      for (auto& [nqn, namespaces] : storage_.nodes.at(node).subsystems) {
        for (const auto& [nsid, ns] : whole.nodes.at(node).subsystems.at(nqn)) {
          if (ns.uuid != UuidOf(volume)) continue;
          if (verb == "appear") namespaces[nsid] = ns;
          if (verb == "vanish") namespaces.erase(nsid);
          // With "swap", the node exports this medium under the UUID of another volume.
          if (verb == "swap") namespaces[nsid].uuid = UuidOf(NumberAt(words, 2));
        }
      }
    } else if (is_iscsi) {
      storage_.iscsi_up = verb == "up";
    } else {
      const AddressState state = verb == "down"   ? AddressState::kDown
                                 : verb == "hang" ? AddressState::kHanging
                                                  : AddressState::kUp;
      const int number = NumberAt(words, 2);
      for (auto& [name, node] : storage_.nodes) {
        for (auto& [address, current] : node.addresses) {
          const bool is_meant = number == 0 ? node.addresses.contains(AddressOf(volume, 1))
                                            : address == AddressOf(volume, number);
          if (is_meant) current = state;
        }
      }
    }
    spdk.FollowStorage();
  });
  if (verb == "up") target_->DoLate();
}

}  // namespace sma::worlds
