// SPDX-License-Identifier: Apache-2.0

// Determines which disks of a remote subsystem are accessible through which path.

#include <algorithm>
#include <utility>

#include "storage_target/bdev_modules/nvme/remote_subsystem.h"

namespace sma::storage_target::bdev_nvme {

using initiator::ControllerInfo;
using initiator::NamespaceInfo;

namespace {

// The namespace UUID for deriving UUIDs of remote namespaces that have none.
const base::Uuid& NameSpace() {
  static const base::Uuid uuid = *base::Uuid::Parse("6c9a1c0e-8f0b-4a86-9d0c-0b4c7f6a2e51");
  return uuid;
}

}  // namespace

RemoteSubsystem::Identity RemoteSubsystem::IdentityOf(const NamespaceInfo& info,
                                                      const ControllerInfo& controller) {
  base::Uuid uuid = info.uuid;
  if (uuid.is_nil()) {
    uuid = base::Uuid::FromName(NameSpace(), controller.subnqn + '\0' + controller.serial_number +
                                                 '\0' + std::to_string(info.nsid));
  }
  return {uuid, info.nguid, info.eui64, info.block_size};
}

const NamespaceInfo* RemoteSubsystem::FindReported(const Member& member, uint32_t nsid) {
  auto found = std::lower_bound(
      member.reported.begin(), member.reported.end(), nsid,
      [](const NamespaceInfo& info, uint32_t wanted) { return info.nsid < wanted; });
  return found == member.reported.end() || found->nsid != nsid ? nullptr : &*found;
}

bool RemoteSubsystem::Shows(const Member& member, const Namespace& ns) const {
  const NamespaceInfo* info = FindReported(member, ns.info.nsid);
  return info != nullptr && IdentityOf(*info, member.path->info()) == ns.identity;
}

// Called for a connected path. Namespaces that it no longer reports are also removed from the
// reports of disconnected paths, which are older.
void RemoteSubsystem::UpdateReports(Member& member) {
  std::vector<NamespaceInfo> before = std::exchange(member.reported, member.path->namespaces());
  for (const NamespaceInfo& info : before) {
    if (FindReported(member, info.nsid) != nullptr) continue;
    for (Member& other : members_) {
      if (other.path->is_up()) continue;
      std::erase_if(other.reported,
                    [&](const NamespaceInfo& old) { return old.nsid == info.nsid; });
    }
  }
}

PathDisks RemoteSubsystem::DisksOf(const Member& member) const {
  PathDisks disks(slots_.size());
  bool write_cache = member.path->info().write_cache;
  for (const auto& [nsid, ns] : namespaces_) {
    if (ns.bdev == nullptr || !Shows(member, ns)) continue;
    disks[ns.key.slot] = {.serial = ns.key.serial,
                          .state = member.path->AnaStateOf(*FindReported(member, nsid)),
                          .force_fua = write_cache && !ns.bdev->info().write_cache};
  }
  return disks;
}

// Persistent loss does not end by itself, so I/O does not wait if all other paths are also unusable
// (NVMe Base 2.0 §8.1.3.4).
bool RemoteSubsystem::IsFailing(const Namespace& ns) const {
  bool lost = false;
  for (const Member& member : members_) {
    if (member.fails_io) continue;
    if (!member.path->is_up()) return false;
    if (!Shows(member, ns)) continue;
    nvme::AnaState state = member.path->AnaStateOf(*FindReported(member, ns.info.nsid));
    if (state != nvme::AnaState::kPersistentLoss) return false;
    lost = true;
  }
  return lost;
}

void RemoteSubsystem::SendDisks() {
  for (Member& member : members_) {
    // A paused path must first report its disks again.
    if (!member.was_up || !member.path->is_up() || member.paused) continue;
    PathDisks disks = DisksOf(member);
    if (member.sent == disks) continue;
    member.sent = disks;
    NotifyQueues([id = member.path->id(), epoch = member.path->epoch(), disks = std::move(disks)](
                     SubsystemQueues& queues) { queues.SetDisks(id, epoch, disks); });
  }
  for (auto& [nsid, ns] : namespaces_) {
    bool failing = ns.bdev != nullptr && IsFailing(ns);
    if (std::exchange(ns.failing, failing) == failing) continue;
    NotifyQueues(
        [key = ns.key, failing](SubsystemQueues& queues) { queues.SetDiskFailing(key, failing); });
  }
}

DiskKey RemoteSubsystem::TakeKey() {
  auto free = std::find(slots_.begin(), slots_.end(), false);
  auto slot = static_cast<uint32_t>(free - slots_.begin());
  if (free == slots_.end()) slots_.push_back(false);
  slots_[slot] = true;
  return {slot, ++last_serial_};
}

}  // namespace sma::storage_target::bdev_nvme
