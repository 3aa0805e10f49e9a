// SPDX-License-Identifier: Apache-2.0

// Checks a world after a step and at the end.

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

}  // namespace

void World::CheckRules() {
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
  // A call that found another owner's subsystem may still be rolling back its changes to it.
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

// Returns true if a volume's bdev depends on the discovery service.
bool World::HasVolumes(const SimSpdk& spdk, const std::string& service) const {
  return std::any_of(spdk.bdevs.begin(), spdk.bdevs.end(), [&](const auto& entry) {
    const SimBdev& bdev = entry.second;
    auto volume = volumes_.find(VolumeOfUuid(bdev.uuid));
    const bool is_attached = volume != volumes_.end() && volume->second.is_attached != Known::kNo;
    return is_attached && !bdev.controller.empty() &&
           spdk.controllers.at(bdev.controller).service == service;
  });
}

// Finds discovery services of the agent that refer to each other, which should be one service.
// `volume` is 0, or the volume that a call has attached: then only for services that were started
// for it, as there may be two of another volume until the comparison after a restart of the target.
// Two services are no error if the agent cannot stop one of them: if another owner started one
// beside the agent's or while its node did not answer, or if volumes depend on both.
std::vector<std::string> World::FindTwinServices(int volume) {
  return target_->With([this, volume](SimSpdk& spdk) {
    const std::string user = volume == 0 ? "" : UuidOf(volume);
    std::vector<std::string> found;
    spdk.FinishDiscovery();
    for (const auto& [name, service] : spdk.services) {
      for (const auto& [other, twin] : spdk.services) {
        const bool are_up = storage_.StateOf(service.address) == AddressState::kUp &&
                            storage_.StateOf(twin.address) == AddressState::kUp;
        const bool is_twin =
            other < name && twin.owner == Owner::kAgent &&
            std::count(service.referrals.begin(), service.referrals.end(), twin.address) > 0;
        const bool is_of_volume = (name + other).find(user) != std::string::npos;
        const bool are_needed = HasVolumes(spdk, name) && HasVolumes(spdk, other);
        if (is_twin && are_up && is_of_volume && service.owner == Owner::kAgent && !are_needed) {
          found.push_back(
              fmt::format("{}: a second service beside {}, which refers to it", name, other));
        }
      }
    }
    return found;
  });
}

// After a call that attaches a volume has been answered with OK, checks that its device exports the
// volume and no other bdev under the volume's UUID.
void World::CheckAnswers(const Call& call, bool is_again) {
  if (call.volume == 0 || (call.verb != "attach" && call.verb != "create")) return;
  for (std::string& twin : FindTwinServices(call.volume)) Problem(std::move(twin));
  const std::string uuid = UuidOf(call.volume);
  target_->With([&](SimSpdk& spdk) {
    const std::vector<std::string> exported =
        spdk.Exported(IsVhost(call.device) ? VhostOf(call.device) : NqnOf(call.device), uuid);
    const std::string what = fmt::format("{} of volume {} to device {} was answered with OK, but ",
                                         call.verb, call.volume, call.device);
    if (exported.empty()) Problem(what + "the device does not export it");
    const bool has_right = std::any_of(exported.begin(), exported.end(), [&](const auto& name) {
      return spdk.bdevs.at(name).contents == spdk.truth.at(uuid);
    });
    // An operator may add other exports under the volume's UUID later; hosts use an export that
    // existed before the call as the volume.
    for (const std::string& name : exported) {
      const Contents& contents = spdk.bdevs.at(name).contents;
      if (contents == spdk.truth.at(uuid) || (has_right && is_again)) continue;
      Problem(what + "the device exports " + ToString(contents));
    }
  });
}

// Adds the disk of a volume if it is missing. SPDK keeps the entry of a crypto bdev whose base was
// removed, and has no method to delete it. If the volume was detached meanwhile, the layer that
// appears with the disk is therefore not the agent's any more, even if the agent had adopted it.
void World::AddDisk(SimSpdk& spdk, int volume, const std::map<int, admin::v1::Volume>& rows) {
  for (SimCryptoName& entry : spdk.crypto_names) {
    const bool is_dormant = !spdk.bdevs.contains(entry.name) &&
                            entry.base_name == "local-" + UuidOf(volume) &&
                            spdk.FindBdev(entry.base_name) == nullptr;
    if (!is_dormant || rows.contains(volume)) continue;
    entry.owner = Owner::kOthers;
    if (auto key = spdk.keys.find(entry.key_name); key != spdk.keys.end()) {
      key->second.owner = Owner::kOthers;
    }
  }
  spdk.AddLocalBdev(UuidOf(volume), TruthOf(volume).medium);
}

// Repairs all neighbours, and removes an operator's objects that conflict with the agent's.
void World::RepairNeighbours() {
  {
    base::MutexLock lock(mutex_);
    die_at_ = fault_at_ = 0;
  }
  target_->SetHung(false);
  std::vector<std::string> ignored;
  const std::map<int, admin::v1::Volume> rows = VolumeRows(ignored);
  target_->With([&](SimSpdk& spdk) {
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
      if (LocationOf(volume) == Location::kLocal) AddDisk(spdk, volume, rows);
      // With its disk, a layer may appear that was created while the disk was missing.
      const std::string layer = "crypto-" + UuidOf(volume);
      if (spdk.bdevs.contains(layer) && spdk.bdevs.at(layer).owner == Owner::kOthers) {
        spdk.Call(Owner::kOthers, "bdev_crypto_delete", {{"name", layer}}).IgnoreError();
      }
    }
    spdk.violations.clear();
  });
  target_->DoLate();
}

bool World::Finish() {
  if (!problems_.empty()) return false;
  RepairNeighbours();
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
  CheckRules();
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
  // This is checked only at the end: after a restart of the target, there may be two services until
  // the comparison in which the agent finds the volume.
  for (std::string& twin : FindTwinServices(/*volume=*/0)) found.push_back(std::move(twin));
  FindLost(rows, found);
  FindLeaks(rows, found);
  FindLeakedDevices(rows, found);
  if (machine_) {
    for (int device : {6, 7}) {
      const bool is_plugged = machine_->HasDevice(VhostOf(device));
      if (is_plugged != devices.contains(HandleOf(device))) {
        found.push_back(
            fmt::format("{}: device {} in the VM", is_plugged ? "leaked" : "lost", device));
      }
    }
  }
  return found;
}

}  // namespace sma::worlds
