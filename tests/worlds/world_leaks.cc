// SPDX-License-Identifier: Apache-2.0

// Finds lost and leaked objects after a world has become idle.

#include <fmt/format.h>

#include <algorithm>

#include "worlds/world.h"

namespace sma::worlds {

namespace {

constexpr char kRate[] = "rw_ios_per_sec";

// Returns the bdev with this name and those below it.
std::vector<SimBdev*> Chain(SimSpdk& spdk, const std::string& name) {
  std::vector<SimBdev*> chain;
  for (SimBdev* bdev = spdk.FindBdev(name); bdev != nullptr;) {
    chain.push_back(bdev);
    bdev = bdev->base.empty() ? nullptr : spdk.FindBdev(bdev->base);
  }
  return chain;
}

}  // namespace

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
      const std::vector<std::string> exported =
          spdk.Exported(IsVhost(device) ? VhostOf(device) : NqnOf(device), uuid);
      if (exported.size() != 1) {
        found.push_back(
            fmt::format("lost: volume {} on device {}: exported {} times, through bdev {}", volume,
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

// Finds objects of the agent without a row in the record.
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
      if (is_limited && options_.checks_limits && bdev.limits_owner == Owner::kAgent &&
          !is_explained) {
        leak(fmt::format("limit {} of bdev {}", limit->second, name));
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
      // SPDK keeps the name of a crypto bdev whose base no longer exists, and it cannot be removed.
      const bool is_explained =
          bdev == spdk.bdevs.end() || media.contains(bdev->second.contents.medium);
      if (entry.owner == Owner::kAgent && !is_explained) leak("crypto bdev " + entry.name);
    }
    for (const auto& [name, key] : spdk.keys) {
      const bool is_used = std::any_of(spdk.crypto_names.begin(), spdk.crypto_names.end(),
                                       [&](const auto& entry) { return entry.key_name == name; });
      if (key.owner == Owner::kAgent && !is_used) leak("key " + name);
    }
  });
}

// Finds subsystems and vhost controllers of the agent, and objects in them, that have no row in the
// record.
void World::FindLeakedDevices(const std::map<int, admin::v1::Volume>& rows,
                              std::vector<std::string>& found) {
  target_->With([&](SimSpdk& spdk) {
    auto leak = [&found](const std::string& what) { found.push_back("leaked: " + what); };
    for (const auto& [nqn, subsystem] : spdk.subsystems) {
      if (subsystem.owner != Owner::kAgent) continue;
      const int device = nqn.back() - '0';
      const bool has_row = devices_.contains(device) && devices_[device].is_there != Known::kNo;
      // A subsystem to which another owner has added something is left to that owner.
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
    for (const auto& [name, vhost] : spdk.vhosts) {
      const int device = name.back() - '0';
      const bool has_row = devices_.contains(device) && devices_[device].is_there != Known::kNo;
      if (vhost.owner == Owner::kAgent && !has_row) leak("vhost controller " + name);
    }
  });
}

}  // namespace sma::worlds
