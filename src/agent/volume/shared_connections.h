#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/record/record.h"
#include "agent/spdk/bdev.h"
#include "agent/spdk/bdev_nvme.h"
#include "agent/volume/known_objects.h"
#include "agent/volume/shared_names.h"
#include "agent/volume/use_counts.h"
#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/caller.h"

namespace sma::volume {

/// How many of the paths to a volume's remote subsystem are up.
struct PathCount {
  uint32_t up = 0;
  uint32_t total = 0;

  friend bool operator==(const PathCount&, const PathCount&) = default;
};

/// The connections that the agent has the target make, discovery services and controllers: which
/// volumes use them or hang on them, and what the target last said of them.
///
/// A volume *uses* a connection that was made for it. It *hangs on* the one that its bdev belongs
/// to, which may have been made for another volume: a target attaches a path once, whichever
/// service lists it, and detaches it with the service that did. So a connection is released only
/// when no volume uses it and none in the record hangs on it. Connections with names that are not
/// in the record are another's: never counted, never released.
///
/// Thread-safe. Methods with a context block, for as long as it allows.
class SharedConnections {
 public:
  /// `target` and `record` outlive this. Counts what the rows of the record say.
  SharedConnections(jsonrpc::Caller& target, record::Record& record);

  /// The name of a connection of the agent's whose key (KeyOf) is `key`; nullopt: there is none.
  std::optional<std::string> FindByKey(std::string_view key) const;
  bool IsUsed(const std::string& name) const { return counts_.IsUsed(name); }
  /// The volumes that use or hang on a connection.
  absl::StatusOr<std::set<base::Uuid>> UsersOf(const base::Context& context,
                                               const std::string& name);
  absl::StatusOr<UseCounts::Held> Lock(const base::Context& context, const std::string& name) {
    return counts_.Lock(context, name);
  }

  /// Counts `volume` as a user of the connections that its bdev hangs on, and adds them to `names`.
  /// False: the bdev was removed meanwhile.
  absl::StatusOr<bool> CountHanging(const base::Context& context, const base::Uuid& volume,
                                    const spdk::Bdev& bdev, SharedNames& names);
  /// The same from what is known of its bdev, without a remote call.
  absl::Status CountKnown(const base::Context& context, const base::Uuid& volume,
                          SharedNames& names);

  /// Releases the connection `name` if nobody but `volume` uses it and nothing hangs on it; else
  /// `volume` merely does not use it any more. OK when it does not exist.
  /// `is_going`: the volume itself need not be found through it any more, either.
  absl::Status Leave(const base::Context& context, const base::Uuid& volume,
                     const std::string& name, bool is_going = true);
  /// Whether the connection `name`, which the caller holds, has no controllers on the target.
  absl::StatusOr<bool> IsIdle(const base::Context& context, const std::string& name);
  /// Whether no attached volume hangs on the connection `name`, which the caller holds. Asks the
  /// target.
  absl::StatusOr<bool> IsBare(const base::Context& context, const std::string& name);
  /// Whether Leave would release the connection. Asks the target.
  absl::StatusOr<bool> IsLast(const base::Context& context, const base::Uuid& volume,
                              const std::string& name);
  /// The volume is in the record now, or soon.
  void Track(const base::Uuid& volume);
  /// The volume is not in the record any more.
  void Forget(const base::Uuid& volume);

  /// What the target said of the bdev of `volume`; nullopt: there is none. `generation`: of the
  /// target before it was asked.
  void NoteBdev(uint64_t generation, const base::Uuid& volume,
                const std::optional<spdk::Bdev>& bdev);
  /// Asks the target for the bdevs of those of `volumes` of which nothing is known, or whose
  /// controller is not there any more.
  absl::Status LookAtBdevs(const base::Context& context, const std::vector<base::Uuid>& volumes);
  absl::Status LookAtServices(const base::Context& context);
  absl::Status LookAtControllers(const base::Context& context);

  /// Whether the target said lately that there is no bdev of the volume.
  bool IsMissing(const base::Uuid& volume) const;
  /// The controller that the volume's bdev belongs to, as it was last seen; empty: none, or
  /// unknown.
  std::string ControllerOf(const base::Uuid& volume) const;

  /// As of the last LookAtControllers; nullopt: not known, or not an NVMe volume.
  std::optional<PathCount> PathsOf(const base::Uuid& volume) const;

  KnownObjects<spdk::DiscoveryService>& services() { return services_; }
  KnownObjects<spdk::Controller>& controllers() { return controllers_; }
  const KnownObjects<spdk::DiscoveryService>& services() const { return services_; }
  const KnownObjects<spdk::Controller>& controllers() const { return controllers_; }

 private:
  // The bdev of a volume, as it was last described.
  struct KnownBdev {
    uint64_t generation = 0;
    bool is_there = false;
    std::string controller;  // empty: it does not belong to a remote subsystem, or is not there
    std::vector<std::string> subsystem_nqns;
  };
  // What goes with a connection.
  struct Reach {
    std::set<std::string> controllers;
    std::set<std::string> nqns;  // of their subsystems
  };

  std::optional<KnownBdev> FindBdev(const base::Uuid& volume) const;
  SharedNames HangsOn(const std::string& controller) const;
  absl::StatusOr<bool> CountOne(const base::Context& context, const base::Uuid& volume,
                                const std::string& name, SharedNames& names);
  absl::StatusOr<bool> CountController(const base::Context& context, const base::Uuid& volume,
                                       const std::string& controller, SharedNames& names);
  absl::StatusOr<std::set<base::Uuid>> FindHanging(const base::Context& context,
                                                   const std::optional<base::Uuid>& except,
                                                   const std::string& name);
  absl::StatusOr<Reach> ReachOf(const base::Context& context, const std::string& name);
  std::vector<base::Uuid> CandidatesFor(const Reach& reach,
                                        const std::optional<base::Uuid>& except);
  absl::Status LookUp(const base::Context& context, const std::vector<base::Uuid>& volumes);
  absl::Status KeepHanging(const base::Uuid& volume, const std::string& name);
  absl::Status Disconnect(const base::Context& context, const std::string& name);
  absl::StatusOr<std::vector<spdk::Controller>> AskControllers(const base::Context& context);
  void EraseIndex(const base::Uuid& volume) SMA_REQUIRES(mutex_);

  jsonrpc::Caller& target_;
  record::Record& record_;
  UseCounts counts_;
  KnownObjects<spdk::DiscoveryService> services_;
  KnownObjects<spdk::Controller> controllers_;
  mutable base::Mutex mutex_;
  std::map<base::Uuid, KnownBdev> bdevs_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, std::set<base::Uuid>> by_nqn_ SMA_GUARDED_BY(mutex_);  // of bdevs_
  // Volumes whose bdev is not known, or was not there, since the target's `unknown_since_`.
  std::set<base::Uuid> unknown_ SMA_GUARDED_BY(mutex_);
  uint64_t unknown_since_ SMA_GUARDED_BY(mutex_) = 0;
};

}  // namespace sma::volume
