// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/known_bdevs.h"

#include <utility>

#include "agent/volume/connection_names.h"

namespace sma::volume {

using base::MutexLock;
using base::Uuid;

void KnownBdevs::Track(const Uuid& volume) {
  MutexLock lock(mutex_);
  if (bdevs_.try_emplace(volume).second) unknown_.insert(volume);
}

void KnownBdevs::Forget(const Uuid& volume) {
  MutexLock lock(mutex_);
  EraseIndex(volume);
  bdevs_.erase(volume);
  unknown_.erase(volume);
  paths_.erase(volume);
}

void KnownBdevs::AddPaths(const Uuid& volume, const std::set<RemotePath>& paths) {
  if (paths.empty()) return;
  MutexLock lock(mutex_);
  paths_[volume].insert(paths.begin(), paths.end());
}

void KnownBdevs::ForgetPaths(const Uuid& volume) {
  MutexLock lock(mutex_);
  paths_.erase(volume);
}

void KnownBdevs::ForgetPath(const Uuid& volume, const RemotePath& path) {
  MutexLock lock(mutex_);
  auto found = paths_.find(volume);
  if (found != paths_.end()) found->second.erase(path);
}

std::set<RemotePath> KnownBdevs::PathsOf(const Uuid& volume) const {
  MutexLock lock(mutex_);
  auto found = paths_.find(volume);
  return found == paths_.end() ? std::set<RemotePath>() : found->second;
}

void KnownBdevs::Note(uint64_t generation, const Uuid& volume,
                      const std::optional<spdk::Bdev>& bdev) {
  KnownBdev known{.generation = generation,
                  .is_there = bdev.has_value(),
                  .controller = {},
                  .name = bdev ? bdev->name : std::string(),
                  .is_namespace = bdev && bdev->is_nvme && bdev->uuid == volume,
                  .subsystem_nqns = {}};
  const bool is_complete = bdev && spdk::IsComplete(*bdev);
  if (bdev && bdev->is_nvme) {
    known.controller = ControllerOfBdev(bdev->name).value_or("");
    known.subsystem_nqns = bdev->subsystem_nqns;
  }
  MutexLock lock(mutex_);
  if (bdev && bdev->is_nvme) {
    for (const spdk::NamespacePath& path : bdev->paths) {
      paths_[volume].insert(RemotePath::Of(path.address, path.subnqn));
    }
  }
  EraseIndex(volume);
  for (const std::string& nqn : known.subsystem_nqns) by_nqn_[nqn].insert(volume);
  bdevs_.insert_or_assign(volume, std::move(known));
  if (is_complete) {
    unknown_.erase(volume);
  } else {
    unknown_.insert(volume);
  }
}

std::optional<KnownBdev> KnownBdevs::Find(uint64_t generation, const Uuid& volume) const {
  MutexLock lock(mutex_);
  auto found = bdevs_.find(volume);
  if (found == bdevs_.end() || found->second.generation != generation) return std::nullopt;
  return found->second;
}

void KnownBdevs::EraseIndex(const Uuid& volume) {
  auto known = bdevs_.find(volume);
  if (known == bdevs_.end()) return;
  for (const std::string& nqn : known->second.subsystem_nqns) {
    auto found = by_nqn_.find(nqn);
    if (found == by_nqn_.end()) continue;
    found->second.erase(volume);
    if (found->second.empty()) by_nqn_.erase(found);
  }
}

std::set<Uuid> KnownBdevs::FindCandidates(uint64_t generation, const std::set<std::string>& nqns) {
  MutexLock lock(mutex_);
  if (unknown_since_ != generation) {
    unknown_since_ = generation;
    for (const auto& [id, bdev] : bdevs_) {
      if (bdev.generation != generation) unknown_.insert(id);
    }
  }
  std::set<Uuid> candidates = unknown_;
  for (const std::string& nqn : nqns) {
    auto found = by_nqn_.find(nqn);
    if (found != by_nqn_.end()) candidates.insert(found->second.begin(), found->second.end());
  }
  return candidates;
}

}  // namespace sma::volume
