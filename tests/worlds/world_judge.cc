// What is wrong with a world, after a step and at the end.

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "worlds/world.h"

namespace sma::worlds {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr milliseconds kIntrusionPatience{300};
constexpr milliseconds kComparePeriod{20};
constexpr char kRate[] = "rw_ios_per_sec";

// The bdev with this name and those below it.
std::vector<SimBdev*> Chain(SimSpdk& spdk, const std::string& name) {
  std::vector<SimBdev*> chain;
  for (SimBdev* bdev = spdk.FindBdev(name); bdev != nullptr;) {
    chain.push_back(bdev);
    bdev = bdev->base.empty() ? nullptr : spdk.FindBdev(bdev->base);
  }
  return chain;
}

// Of the volume `uuid` on the device, the bdevs that are exported; there should be one.
std::vector<std::string> Exported(const SimSpdk& spdk, int device, const std::string& uuid) {
  std::vector<std::string> found;
  if (IsVhost(device)) {
    auto vhost = spdk.vhosts.find(VhostOf(device));
    if (vhost != spdk.vhosts.end() && !vhost->second.bdev.empty()) {
      found.push_back(vhost->second.bdev);
    }
    return found;
  }
  auto subsystem = spdk.subsystems.find(NqnOf(device));
  if (subsystem == spdk.subsystems.end()) return found;
  for (const auto& [nsid, ns] : subsystem->second.namespaces) {
    if (ns.uuid == uuid) found.push_back(ns.bdev);
  }
  return found;
}

}  // namespace

void World::Judge() {
  target_->With([this](SimSpdk& spdk) {
    for (std::string& violation : spdk.violations) Problem(std::move(violation));
    spdk.violations.clear();
    std::map<std::string, std::string> places;
    for (const auto& [nqn, subsystem] : spdk.subsystems) {
      for (const auto& [nsid, ns] : subsystem.namespaces) {
        if (ns.owner != Owner::kAgent || !spdk.truth.contains(ns.uuid)) continue;
        auto [other, is_new] = places.emplace(ns.uuid, nqn);
        if (!is_new) {
          Problem(fmt::format("volume {} is in {} and in {}", ns.uuid, other->second, nqn));
        }
      }
    }
  });
  // A call that met another's subsystem may take back what it did to it.
  const auto end = steady_clock::now() + kIntrusionPatience;
  std::vector<std::string> intrusions;
  while (true) {
    intrusions = target_->With([](SimSpdk& spdk) { return spdk.Intrusions(); });
    if (intrusions.empty() || steady_clock::now() > end) break;
    std::this_thread::sleep_for(milliseconds(1));
  }
  for (const std::string& intrusion : intrusions) {
    Problem("left in what the agent did not make: " + intrusion);
  }
}

// Discovery services of the agent that refer to each other: they are one.
void World::JudgeServices() {
  target_->With([this](SimSpdk& spdk) {
    spdk.FinishDiscovery();
    for (const auto& [name, service] : spdk.services) {
      for (const auto& [other, twin] : spdk.services) {
        const bool are_up = storage_.StateOf(service.address) == AddressState::kUp &&
                            storage_.StateOf(twin.address) == AddressState::kUp;
        const bool is_twin = other < name && std::count(service.referrals.begin(),
                                                        service.referrals.end(), twin.address) > 0;
        if (is_twin && are_up && service.owner == Owner::kAgent) {
          Problem(fmt::format("{}: a second service beside {}, which refers to it", name, other));
        }
      }
    }
  });
}

// A call that attaches a volume was answered OK: its device exports the volume, and nothing else in
// its name.
void World::JudgeAnswers(const Call& call, bool is_again) {
  if (call.volume == 0 || (call.verb != "attach" && call.verb != "create")) return;
  JudgeServices();
  const std::string uuid = UuidOf(call.volume);
  target_->With([&](SimSpdk& spdk) {
    const std::vector<std::string> exported = Exported(spdk, call.device, uuid);
    const std::string what = fmt::format("{} of volume {} to device {} was answered OK, and ",
                                         call.verb, call.volume, call.device);
    if (exported.empty()) Problem(what + "the device does not export it");
    const bool has_right = std::any_of(exported.begin(), exported.end(), [&](const auto& name) {
      return spdk.bdevs.at(name).contents == spdk.truth.at(uuid);
    });
    // What an operator adds later under the volume's UUID is his affair; what was there before is
    // what hosts take for the volume.
    for (const std::string& name : exported) {
      const Contents& contents = spdk.bdevs.at(name).contents;
      if (contents == spdk.truth.at(uuid) || (has_right && is_again)) continue;
      Problem(what + "the device exports " + ToString(contents));
    }
  });
}

// All neighbours are well again, and nothing of an operator's is where the agent's things belong.
void World::Heal() {
  {
    base::MutexLock lock(mutex_);
    die_at_ = fault_at_ = 0;
  }
  target_->SetHung(false);
  target_->With([this](SimSpdk& spdk) {
    const Storage whole = MakeStorage();
    storage_.nodes = whole.nodes;
    storage_.iscsi_up = true;
    spdk.FinishDiscovery();
    spdk.FollowStorage();
    for (int device = 0; device < kDeviceCount; ++device) {
      auto subsystem = spdk.subsystems.find(NqnOf(device));
      if (subsystem == spdk.subsystems.end()) continue;
      if (subsystem->second.owner == Owner::kOthers) {
        spdk.Call(Owner::kOthers, "nvmf_delete_subsystem", {{"nqn", NqnOf(device)}}).IgnoreError();
        continue;
      }
      std::vector<uint32_t> others;
      for (const auto& [nsid, ns] : subsystem->second.namespaces) {
        if (ns.owner == Owner::kOthers && VolumeOfUuid(ns.uuid) != 0) others.push_back(nsid);
      }
      for (uint32_t nsid : others) {
        spdk.Call(Owner::kOthers, "nvmf_subsystem_remove_ns",
                  {{"nqn", NqnOf(device)}, {"nsid", nsid}})
            .IgnoreError();
      }
    }
    for (int volume = 1; volume <= kVolumeCount; ++volume) {
      spdk.Call(Owner::kOthers, "nvmf_delete_subsystem",
                {{"nqn", fmt::format("nqn.2016-06.io.spdk:operators-{}", volume)}})
          .IgnoreError();
      const std::string layer = "crypto-" + UuidOf(volume);
      if (spdk.bdevs.contains(layer) && spdk.bdevs.at(layer).owner == Owner::kOthers) {
        spdk.Call(Owner::kOthers, "bdev_crypto_delete", {{"name", layer}}).IgnoreError();
      }
      if (PlaceOf(volume) == Place::kLocal) {
        spdk.AddLocalBdev(UuidOf(volume), TruthOf(volume).medium);
      }
    }
    spdk.violations.clear();
  });
  target_->DoLate();
}

bool World::Finish() {
  if (!problems_.empty()) return false;
  Heal();
  const auto end = steady_clock::now() + options_.patience;
  auto next_compare = steady_clock::now();
  std::vector<std::string> unsettled;
  while (true) {
    unsettled = Unsettled();
    if (unsettled.empty() || steady_clock::now() > end) break;
    if (steady_clock::now() > next_compare) {
      host_->Compare();
      next_compare = steady_clock::now() + kComparePeriod;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(500));
  }
  Judge();
  JudgeServices();
  for (std::string& text : unsettled) Problem(std::move(text));
  return problems_.empty();
}

std::map<int, admin::v1::Volume> World::VolumeRows(std::vector<std::string>& found) {
  std::map<int, admin::v1::Volume> rows;
  auto list = host_->admin().ListVolumes(base::Context::Background(), {});
  if (!list.ok()) {
    found.push_back("ListVolumes: " + list.status().ToString());
    return rows;
  }
  for (const admin::v1::Volume& row : list->volumes()) rows[VolumeOfId(row.volume_id())] = row;
  return rows;
}

std::vector<std::string> World::Unsettled() {
  std::vector<std::string> found;
  if (!host_->is_serving()) return {"the agent does not serve"};
  const std::map<int, admin::v1::Volume> rows = VolumeRows(found);
  std::set<std::string> devices;
  auto list = host_->admin().ListDevices(base::Context::Background(), {});
  if (!list.ok()) return {"ListDevices: " + list.status().ToString()};
  for (const admin::v1::Device& row : list->devices()) {
    devices.insert(row.handle());
    if (row.state() != admin::v1::STATE_READY) {
      found.push_back(fmt::format("{} is in state {}: {}", row.handle(),
                                  admin::v1::State_Name(row.state()), row.last_error().message()));
    }
  }
  for (const auto& [device, state] : devices_) {
    const bool has_row = devices.contains(HandleOf(device));
    if (state.is_there == Known::kYes && !has_row) {
      found.push_back(fmt::format("lost: the row of device {}", device));
    }
    if (state.is_there == Known::kNo && has_row) {
      found.push_back(fmt::format("leaked: the row of device {}", device));
    }
    if (!has_row || IsVhost(device)) continue;
    target_->With([&, number = device](SimSpdk& spdk) {
      auto subsystem = spdk.subsystems.find(NqnOf(number));
      if (subsystem == spdk.subsystems.end()) {
        found.push_back(fmt::format("lost: the subsystem of device {}", number));
        return;
      }
      const CreateDeviceRequest request = DeviceRequest(number);
      for (const std::string& host : request.nvmf_tcp().hosts()) {
        if (!subsystem->second.hosts.contains(host)) {
          found.push_back(fmt::format("lost: host {} of device {}", host, number));
        }
      }
      if (subsystem->second.listeners.empty()) {
        found.push_back(fmt::format("lost: the listener of device {}", number));
      }
    });
  }
  FindLost(rows, found);
  FindLeaks(rows, found);
  if (machine_) {
    for (int device : {6, 7}) {
      const bool is_plugged = machine_->HasDevice(VhostOf(device));
      if (is_plugged != devices.contains(HandleOf(device))) {
        found.push_back(
            fmt::format("{}: device {} in the machine", is_plugged ? "leaked" : "lost", device));
      }
    }
  }
  return found;
}

void World::FindLost(const std::map<int, admin::v1::Volume>& rows,
                     std::vector<std::string>& found) {
  for (const auto& [number, state] : volumes_) {
    if (number == 0) continue;
    const bool has_row = rows.contains(number);
    if (state.is_attached == Known::kYes && !has_row) {
      found.push_back(fmt::format("lost: the row of volume {}", number));
    }
    if (state.is_attached == Known::kNo && has_row) {
      found.push_back(fmt::format("leaked: the row of volume {}", number));
    }
  }
  for (const auto& [number, row] : rows) {
    if (row.state() != admin::v1::STATE_READY) {
      found.push_back(fmt::format("volume {} is in state {}: {}", number,
                                  admin::v1::State_Name(row.state()), row.last_error().message()));
      continue;
    }
    int device = 0;
    while (device < kDeviceCount && HandleOf(device) != row.device_handle()) ++device;
    const std::string uuid = UuidOf(number);
    target_->With([&, volume = number](SimSpdk& spdk) {
      const std::vector<std::string> exported = Exported(spdk, device, uuid);
      if (exported.size() != 1) {
        found.push_back(
            fmt::format("lost: volume {} on device {}: it is there {} times, of bdev {}", volume,
                        device, exported.size(), exported.empty() ? "" : exported.front()));
        return;
      }
      std::vector<SimBdev*> chain = Chain(spdk, exported.front());
      if (chain.front()->contents != spdk.truth.at(uuid)) {
        found.push_back(fmt::format("volume {} is {}", volume, ToString(chain.front()->contents)));
      }
      const std::optional<uint64_t> limit = volumes_[volume].limit;
      for (size_t i = 0; limit && i < chain.size(); ++i) {
        const uint64_t wanted = i == 0 ? *limit * 1000 : 0;
        const bool is_others = i > 0 && chain[i]->limits_owner == Owner::kOthers;
        if (is_others || chain[i]->limits[kRate] == wanted) continue;
        found.push_back(fmt::format("volume {} has limit {} on bdev {}, not {}", volume,
                                    chain[i]->limits[kRate], chain[i]->name, wanted));
      }
    });
  }
}

// Objects of the agent that no row explains.
void World::FindLeaks(const std::map<int, admin::v1::Volume>& rows,
                      std::vector<std::string>& found) {
  std::set<std::string> media;
  std::set<NodeAddress> addresses;
  std::set<std::string> direct;
  for (const auto& [number, row] : rows) {
    media.insert(TruthOf(number).medium);
    for (const nvmf::Address& address : row.nvmf().discovery().discovery_endpoints()) {
      addresses.insert({.traddr = address.traddr(), .trsvcid = address.trsvcid()});
    }
    if (row.nvmf().has_direct()) direct.insert(row.nvmf().subnqn());
  }
  target_->With([&](SimSpdk& spdk) {
    auto leak = [&found](const std::string& what) { found.push_back("leaked: " + what); };
    std::set<std::string> in_use;  // controllers and services
    for (const auto& [name, bdev] : spdk.bdevs) {
      const bool is_explained = media.contains(bdev.contents.medium);
      if (is_explained && !bdev.controller.empty()) {
        in_use.insert(bdev.controller);
        in_use.insert(spdk.controllers.at(bdev.controller).service);
      }
      const bool is_own = bdev.owner == Owner::kAgent && bdev.controller.empty();
      if (is_own && !is_explained) leak("bdev " + name);
      auto limit = bdev.limits.find(kRate);
      const bool is_limited = limit != bdev.limits.end() && limit->second != 0;
      if (is_limited && options_.judges_limits && bdev.limits_owner == Owner::kAgent &&
          !is_explained) {
        leak(fmt::format("limit {} of bdev {}", limit->second, name));
      }
    }
    for (const auto& [nqn, subsystem] : spdk.subsystems) {
      if (subsystem.owner != Owner::kAgent) continue;
      const int device = nqn.back() - '0';
      const bool has_row = devices_.contains(device) && devices_[device].is_there != Known::kNo;
      // One to which somebody has added something is left to him.
      const bool is_mixed =
          std::any_of(subsystem.hosts.begin(), subsystem.hosts.end(),
                      [](const auto& host) { return host.second != Owner::kAgent; }) ||
          std::any_of(subsystem.namespaces.begin(), subsystem.namespaces.end(),
                      [](const auto& entry) { return entry.second.owner != Owner::kAgent; });
      if (!has_row && !is_mixed) leak("subsystem " + nqn);
      for (const auto& [nsid, ns] : subsystem.namespaces) {
        if (ns.owner == Owner::kAgent && !rows.contains(VolumeOfUuid(ns.uuid))) {
          leak(fmt::format("namespace {} in {}", ns.uuid, nqn));
        }
      }
      for (const auto& [host, owner] : subsystem.hosts) {
        if (owner == Owner::kAgent && host != HostOf(device)) leak("host " + host + " in " + nqn);
      }
    }
    for (const auto& [name, service] : spdk.services) {
      bool is_explained = in_use.contains(name) || addresses.contains(service.address);
      for (const NodeAddress& address : service.referrals) {
        is_explained |= addresses.contains(address);
      }
      if (service.owner == Owner::kAgent && !is_explained) leak("discovery service " + name);
    }
    for (const auto& [name, controller] : spdk.controllers) {
      const bool is_explained = in_use.contains(name) || direct.contains(controller.subnqn);
      if (controller.owner == Owner::kAgent && controller.service.empty() && !is_explained) {
        leak("controller " + name);
      }
    }
    for (const SimCryptoName& entry : spdk.crypto_names) {
      auto bdev = spdk.bdevs.find(entry.name);
      // Of one whose base is gone SPDK keeps the name, and nobody can remove it.
      const bool is_explained =
          bdev == spdk.bdevs.end() || media.contains(bdev->second.contents.medium);
      if (entry.owner == Owner::kAgent && !is_explained) leak("crypto bdev " + entry.name);
    }
    for (const auto& [name, key] : spdk.keys) {
      const bool is_used = std::any_of(spdk.crypto_names.begin(), spdk.crypto_names.end(),
                                       [&](const auto& entry) { return entry.key_name == name; });
      if (key.owner == Owner::kAgent && !is_used) leak("key " + name);
    }
    for (const auto& [name, vhost] : spdk.vhosts) {
      const int device = name.back() - '0';
      const bool has_row = devices_.contains(device) && devices_[device].is_there != Known::kNo;
      if (vhost.owner == Owner::kAgent && !has_row) leak("vhost controller " + name);
    }
  });
}

}  // namespace sma::worlds
