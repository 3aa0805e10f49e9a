// SPDX-License-Identifier: Apache-2.0

// Creates and removes the bdevs of a remote subsystem according to its namespaces.

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "storage_target/bdev_modules/nvme/driver_info.h"
#include "storage_target/bdev_modules/nvme/nvme_bdev.h"
#include "storage_target/bdev_modules/nvme/remote_subsystem.h"
#include "storage_target/nvme/identify.h"

namespace sma::storage_target::bdev_nvme {

using initiator::ControllerInfo;
using initiator::NamespaceInfo;

namespace {

bdev::Bdev::Info MakeBdevInfo(const std::string& name, const NamespaceInfo& ns,
                              const base::Uuid& uuid, const ControllerInfo& controller) {
  bdev::Bdev::Info info;
  info.name = name + "n" + std::to_string(ns.nsid);
  info.uuid = uuid;
  info.product_name = "NVMe disk";
  info.block_size = ns.block_size;
  info.block_count = ns.block_count;
  info.write_cache = controller.write_cache;
  info.native_fua = true;
  info.read_only = ns.write_protected;
  info.unmap_reads_zero = ns.reads_zeroes_after_unmap;
  info.numa_id = -1;
  info.write_alignment = ns.write_alignment;
  info.write_granularity = ns.write_granularity;
  info.optimal_write_size = ns.optimal_write_size;
  info.unmap_alignment = ns.unmap_alignment;
  info.unmap_granularity = ns.unmap_granularity;
  return info;
}

}  // namespace

// Returns the namespaces that the connected paths report. If the paths contradict each other, the
// disk of an existing bdev is preferred, and otherwise the disk of the first path.
std::map<uint32_t, RemoteSubsystem::Wanted> RemoteSubsystem::WantedNamespaces() const {
  std::map<uint32_t, Wanted> wanted;
  for (const Member& member : members_) {
    if (!member.was_up || !member.path->is_up()) continue;
    for (const NamespaceInfo& info : member.reported) {
      Wanted found{info, IdentityOf(info, member.path->info())};
      auto [at, is_new] = wanted.try_emplace(info.nsid, found);
      auto existing = namespaces_.find(info.nsid);
      if (is_new || existing == namespaces_.end()) continue;
      const Identity& identity = existing->second.identity;
      if (at->second.identity != identity && found.identity == identity) at->second = found;
    }
  }
  for (auto& [nsid, ns] : wanted) ns.info.write_protected = IsWriteProtected(nsid);
  return wanted;
}

bool RemoteSubsystem::IsWriteProtected(uint32_t nsid) const {
  return std::any_of(members_.begin(), members_.end(), [&](const Member& member) {
    const NamespaceInfo* info = member.path->is_up() ? FindReported(member, nsid) : nullptr;
    return info != nullptr && info->write_protected;
  });
}

// Returns true if only a disconnected path has ever reported the namespace, which may be attached
// only to that controller.
bool RemoteSubsystem::IsKeptByPathDown(const Namespace& ns) const {
  return std::any_of(members_.begin(), members_.end(), [&](const Member& member) {
    return member.was_up && !member.path->is_up() && Shows(member, ns);
  });
}

// Compares the reports of the connected paths with the existing bdevs, and creates, updates and
// removes bdevs. If a bdev must be removed before another is created, the completion of the removal
// calls this function again.
void RemoteSubsystem::Reconcile() {
  bool any_up = std::any_of(members_.begin(), members_.end(), [](const Member& member) {
    return member.was_up && member.path->is_up();
  });
  if (removing_ || !any_up) return;
  const std::map<uint32_t, Wanted> wanted = WantedNamespaces();
  std::vector<uint32_t> unwanted;
  for (auto& [nsid, ns] : namespaces_) {
    auto found = wanted.find(nsid);
    bool same = found != wanted.end() && found->second.identity == ns.identity &&
                found->second.info.write_protected == ns.info.write_protected;
    bool kept = found == wanted.end() && IsKeptByPathDown(ns);
    if (!same && !kept) unwanted.push_back(nsid);
  }
  for (uint32_t nsid : unwanted) UnregisterBdev(nsid);
  for (const auto& [nsid, ns] : wanted) {
    auto found = namespaces_.find(nsid);
    if (found == namespaces_.end()) {
      RegisterBdev(ns);
    } else if (found->second.bdev != nullptr) {
      UpdateBdev(found->second, ns.info);
    }
  }
  SendDisks();
}

// Returns the capabilities that all connected controllers that report the disk have in common.
ControllerInfo RemoteSubsystem::CapabilitiesFor(const Wanted& wanted) const {
  ControllerInfo common;
  common.oncs = UINT16_MAX;
  common.write_cache = false;
  for (const Member& member : members_) {
    const NamespaceInfo* info =
        member.path->is_up() ? FindReported(member, wanted.info.nsid) : nullptr;
    if (info == nullptr || IdentityOf(*info, member.path->info()) != wanted.identity) continue;
    common.oncs &= member.path->info().oncs;
    common.write_cache |= member.path->info().write_cache;
  }
  return common;
}

void RemoteSubsystem::RegisterBdev(const Wanted& wanted) {
  const NamespaceInfo& info = wanted.info;
  const ControllerInfo controller = CapabilitiesFor(wanted);
  const DiskKey key = TakeKey();
  NvmeBdev::Options options{.nsid = info.nsid,
                            .disk = key,
                            .compare = (controller.oncs & nvme::kOncsCompare) != 0,
                            .unmap = (controller.oncs & nvme::kOncsDatasetManagement) != 0,
                            .write_zeroes = (controller.oncs & nvme::kOncsWriteZeroes) != 0,
                            .queues = queues_,
                            .driver_specific = [weak = weak_from_this(), nsid = info.nsid] {
                              auto self = weak.lock();
                              return self ? self->DriverSpecific(nsid) : bdev::Object{};
                            }};
  auto made = std::make_unique<NvmeBdev>(
      MakeBdevInfo(name_, info, wanted.identity.uuid, controller), options);
  bdev::Bdev* bdev = made.get();
  const std::string bdev_name = bdev->name();
  // Set before the registration, because observers may query the bdev.
  namespaces_[info.nsid] = {info, wanted.identity, key, bdev};
  if (int error = environment_.registry.Register(std::move(made)); error != 0) {
    spdlog::error("nvme: cannot register bdev {} with UUID {}: {}", bdev_name,
                  wanted.identity.uuid.ToString(), std::strerror(error));
    namespaces_.erase(info.nsid);
    slots_[key.slot] = false;
  }
}

void RemoteSubsystem::UpdateBdev(Namespace& ns, const NamespaceInfo& info) {
  if (info.block_count == ns.bdev->block_count()) return;
  if (int error = environment_.registry.Resize(*ns.bdev, info.block_count); error != 0) {
    spdlog::warn(
        "nvme: {}: the namespace has shrunk to {} blocks, but the bdev is in use with {} blocks",
        ns.bdev->name(), info.block_count, ns.bdev->block_count());
    return;
  }
  ns.info = info;
}

void RemoteSubsystem::UnregisterBdev(uint32_t nsid) {
  Namespace& ns = namespaces_[nsid];
  if (ns.bdev == nullptr) return;
  bdev::Bdev& bdev = *std::exchange(ns.bdev, nullptr);
  NotifyQueues([key = ns.key](SubsystemQueues& queues) { queues.DiskGone(key); });
  environment_.registry.Unregister(bdev, [self = shared_from_this(), nsid, slot = ns.key.slot] {
    self->namespaces_.erase(nsid);
    self->slots_[slot] = false;
    self->ShutDownWhenEmpty();
    self->Reconcile();
  });
}

std::vector<std::string> RemoteSubsystem::BdevNames() const {
  std::vector<std::string> names;
  for (const auto& [nsid, ns] : namespaces_) {
    if (ns.bdev != nullptr) names.push_back(ns.bdev->name());
  }
  return names;
}

bdev::Object RemoteSubsystem::DriverSpecific(uint32_t nsid) const {
  bdev::List paths;
  auto found = namespaces_.find(nsid);
  if (found != namespaces_.end()) {
    for (const Member& member : members_) {
      if (!member.was_up || !Shows(member, found->second)) continue;
      paths.push_back(NamespacePathInfo(*member.path, *FindReported(member, nsid)));
    }
  }
  return {{"nvme", paths}, {"mp_policy", PolicyName(policy_)}};
}

}  // namespace sma::storage_target::bdev_nvme
