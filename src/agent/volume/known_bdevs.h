// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/spdk/bdev.h"
#include "agent/volume/shared_names.h"
#include "base/mutex.h"
#include "base/uuid.h"

namespace sma::volume {

/// The target's last description of a volume's bdev.
struct KnownBdev {
  uint64_t generation = 0;  // of the connection before the query
  bool is_there = false;
  std::string controller;  // empty: missing, or not in a remote subsystem
  std::string name;
  bool is_namespace = false;  // of a remote subsystem, with the volume's UUID
  std::vector<std::string> subsystem_nqns;
};

/// A cache of the bdevs of the record's volumes, as the target last described them. Thread-safe; no
/// method blocks.
class KnownBdevs {
 public:
  /// Adds a volume that is in the record or will soon be added to it.
  void Track(const base::Uuid& volume);
  /// Removes a volume that is no longer in the record.
  void Forget(const base::Uuid& volume);

  /// Stores the target's description of the bdev of `volume`; nullopt if it has no bdev.
  /// `generation` is the generation of the connection to the target before the query.
  void Note(uint64_t generation, const base::Uuid& volume, const std::optional<spdk::Bdev>& bdev);

  /// Adds paths through which the volume should be reachable; Note adds those of its bdev.
  void AddPaths(const base::Uuid& volume, const std::set<RemotePath>& paths);
  void ForgetPaths(const base::Uuid& volume);
  void ForgetPath(const base::Uuid& volume, const RemotePath& path);
  /// Returns the paths through which the volume was found, or should be reachable, except those
  /// that were forgotten.
  std::set<RemotePath> PathsOf(const base::Uuid& volume) const;

  /// Returns the description, if it was queried over connection `generation`.
  std::optional<KnownBdev> Find(uint64_t generation, const base::Uuid& volume) const;

  /// Returns the volumes that may have a bdev in one of these subsystems: those whose last
  /// description names one of them, and those without a description.
  std::set<base::Uuid> FindCandidates(uint64_t generation, const std::set<std::string>& nqns);

 private:
  void EraseIndex(const base::Uuid& volume) SMA_REQUIRES(mutex_);

  mutable base::Mutex mutex_;
  std::map<base::Uuid, KnownBdev> bdevs_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, std::set<base::Uuid>> by_nqn_ SMA_GUARDED_BY(mutex_);  // index of bdevs_
  std::map<base::Uuid, std::set<RemotePath>> paths_ SMA_GUARDED_BY(mutex_);
  // Volumes whose bdev was not described, or was missing, over connection `unknown_since_`.
  std::set<base::Uuid> unknown_ SMA_GUARDED_BY(mutex_);
  uint64_t unknown_since_ SMA_GUARDED_BY(mutex_) = 0;
};

}  // namespace sma::volume
