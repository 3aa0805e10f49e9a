// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <functional>
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
#include "agent/spdk/notify.h"
#include "agent/volume/connection_query.h"
#include "agent/volume/known_bdevs.h"
#include "agent/volume/known_objects.h"
#include "agent/volume/shared_names.h"
#include "agent/volume/use_counts.h"
#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/caller.h"
#include "sma.pb.h"

namespace sma::volume {

/// The number of paths to a volume's remote subsystem, and of those that are up.
struct PathCount {
  uint32_t up = 0;
  uint32_t total = 0;

  friend bool operator==(const PathCount&, const PathCount&) = default;
};

/// The connections that the agent creates on the target, which are discovery services and
/// controllers: keeps track of the volumes that use them or depend on them, and of the target's
/// last description of them.
///
/// A volume *uses* a connection that was created for it. It *depends on* the connection to which
/// its bdev belongs, which may have been created for another volume: a target attaches a path only
/// once, whichever service lists it, and detaches it together with that service. Therefore a
/// connection is released only when no volume uses it, no volume in the record depends on it, and
/// nobody else uses a bdev that belongs to it; it is kept for others until they no longer use it. A
/// connection whose name is not in the record belongs to another owner: it is never counted and
/// never released.
///
/// Thread-safe. Methods with a context block until it ends at the latest.
class SharedConnections {
 public:
  /// `target` and `record` must outlive this object. Counts the connections in the record's rows.
  SharedConnections(jsonrpc::Caller& target, record::Record& record);

  /// Returns the name of the agent's connection whose key (KeyOf) is `key`, and for which `matches`
  /// returns true if it is set; nullopt if there is none.
  std::optional<std::string> FindByKey(
      std::string_view key,
      const std::function<bool(const std::string& name)>& matches = nullptr) const;
  /// Returns true if a volume that is connected directly through `name` names one of the addresses.
  /// Visits all volumes of the record.
  bool IsAtAnyOf(const std::string& name,
                 const std::vector<spdk::TransportAddress>& addresses) const;
  /// Returns true if a user of the controller `name` other than `volume` names the address, or may
  /// depend on it because it names no addresses.
  absl::StatusOr<bool> IsNeededByOthers(const base::Context& context, const base::Uuid& volume,
                                        const std::string& name,
                                        const spdk::TransportAddress& address);
  /// Removes a path from the controller `name`, unless IsNeededByOthers is true, or no other path
  /// is up, or `is_going` is true and `volume` is the only user, so that the path is released with
  /// the controller.
  absl::Status RemovePath(const base::Context& context, const base::Uuid& volume,
                          const std::string& name, const std::string& subnqn,
                          const spdk::TransportAddress& address, bool is_going);
  /// Returns the name of the agent's connection with this key: the one in use; otherwise the one
  /// that an earlier caller plans to create; otherwise `name`, which is then planned. Concurrent
  /// callers therefore create only one connection. A plan ends with the first Leave of its name.
  std::string PlanName(std::string_view key, std::string name);
  bool IsUsed(const std::string& name) const { return counts_.IsUsed(name); }
  /// Returns the volumes that are counted for a connection.
  absl::StatusOr<std::set<base::Uuid>> UsersOf(const base::Context& context,
                                               const std::string& name);
  absl::StatusOr<UseCounts::Held> Lock(const base::Context& context, const std::string& name) {
    return counts_.Lock(context, name);
  }

  /// Counts `volume` as a user of the connections that its bdev depends on, and adds them to
  /// `names`. Returns false if the bdev was removed meanwhile.
  absl::StatusOr<bool> CountHanging(const base::Context& context, const base::Uuid& volume,
                                    const spdk::Bdev& bdev, SharedNames& names);
  /// Like CountHanging, but uses the last known description of the bdev and makes no remote call.
  absl::Status CountKnown(const base::Context& context, const base::Uuid& volume,
                          SharedNames& names);

  /// Ends the use of the connection `name` by `volume`, and releases the connection if no other
  /// volume uses it or depends on it. Returns OK if it does not exist, or is kept for others.
  /// `is_going` is true if the volume is being released, so that its own bdev does not keep the
  /// connection.
  absl::Status Leave(const base::Context& context, const base::Uuid& volume,
                     const std::string& name, bool is_going = true);
  /// Releases the connections that were kept for others, if they no longer use them. Queries the
  /// target for each of these connections, at most once a second.
  absl::Status ReleaseLingering(const base::Context& context);
  /// Returns true if the connection `name`, whose lock the caller holds, has no controllers.
  /// Queries the target.
  absl::StatusOr<bool> IsIdle(const base::Context& context, const std::string& name);
  /// Returns true if no attached volume depends on the connection `name`, whose lock the caller
  /// holds, and nobody else uses it. Queries the target.
  absl::StatusOr<bool> HasNoVolumes(const base::Context& context, const std::string& name);
  /// Returns the volumes other than `volume` that are counted for the connection `name`, if all of
  /// them are being removed and nothing else depends on it, so that it may be released at once;
  /// nullopt otherwise. Queries the target.
  absl::StatusOr<std::optional<std::set<base::Uuid>>> FindOthersThatGo(const base::Context& context,
                                                                       const base::Uuid& volume,
                                                                       const std::string& name);
  /// Adds a volume that is in the record or will soon be added to it, and the paths to the
  /// addresses that it names.
  void Track(const base::Uuid& volume, const VolumeParameters& params);
  /// Same contract as KnownBdevs::PathsOf.
  std::set<RemotePath> KnownPathsOf(const base::Uuid& volume) const {
    return bdevs_.PathsOf(volume);
  }
  /// Replaces these paths by those that a row contains.
  void SetPaths(const record::Volume& row);
  /// Returns the known paths that the volume's bdev no longer has, according to the last
  /// description of the target; none unless one of its other paths is up.
  std::set<RemotePath> LostPathsOf(const base::Uuid& volume) const;
  /// Returns true if the target is connected to the subsystem of a lost path at the path's address,
  /// and has found the volume in another subsystem: the volume is no longer there.
  bool IsElsewhere(const base::Uuid& volume, const RemotePath& lost) const;
  void ForgetPath(const base::Uuid& volume, const RemotePath& path) {
    bdevs_.ForgetPath(volume, path);
  }
  /// Removes a volume that is no longer in the record.
  void Forget(const base::Uuid& volume) { bdevs_.Forget(volume); }

  /// Same contract as KnownBdevs::Note.
  void NoteBdev(uint64_t generation, const base::Uuid& volume,
                const std::optional<spdk::Bdev>& bdev) {
    bdevs_.Note(generation, volume, bdev);
  }
  /// Notes the target's events.
  void NoteEvents(const std::vector<spdk::BdevEvent>& events) { names_.Note(events); }
  /// Query the target for, respectively, the bdevs of those `volumes` that have no description or
  /// whose controller no longer exists; all discovery services; all controllers.
  absl::Status RefreshBdevs(const base::Context& context, const std::vector<base::Uuid>& volumes);
  absl::Status RefreshServices(const base::Context& context);
  absl::Status RefreshControllers(const base::Context& context);

  /// Returns ALREADY_EXISTS if the target, when it was last queried, had a bdev under the name
  /// or UUID of the volume that is no namespace of a remote subsystem with this UUID.
  absl::Status CheckNamespace(const base::Uuid& volume) const;
  /// Returns true if the volume had no bdev when the target was last queried.
  bool IsMissing(const base::Uuid& volume) const;
  /// Returns the controller to which the volume's bdev last belonged; empty if there is none or it
  /// is unknown.
  std::string ControllerOf(const base::Uuid& volume) const;

  /// Returns the paths as of the last RefreshControllers, including those through which the volume
  /// was found earlier; nullopt if they are unknown or the volume is not an NVMe volume.
  std::optional<PathCount> PathsOf(const base::Uuid& volume) const;

  KnownObjects<spdk::DiscoveryService>& services() { return services_; }
  KnownObjects<spdk::Controller>& controllers() { return controllers_; }
  const KnownObjects<spdk::DiscoveryService>& services() const { return services_; }
  const KnownObjects<spdk::Controller>& controllers() const { return controllers_; }

 private:
  // Who needs a connection.
  struct Needed {
    std::set<base::Uuid> volumes;  // attached volumes that depend on it
    std::string others;            // for a message: who else uses it; empty: nobody

    bool by_nobody() const { return volumes.empty() && others.empty(); }
  };
  // Whose bdevs count in FindNeeded: those of `except` do not keep the connection. They are not
  // expected to be in use either, unless `in_use` is set, because its device still has it.
  struct Except {
    std::optional<base::Uuid> volume{};
    bool in_use = false;
  };

  SharedNames HangsOn(const std::string& controller) const;
  absl::StatusOr<bool> CountOne(const base::Context& context, const base::Uuid& volume,
                                const std::string& name, SharedNames& names);
  absl::StatusOr<bool> CountController(const base::Context& context, const base::Uuid& volume,
                                       const std::string& controller, SharedNames& names);
  absl::StatusOr<Needed> FindNeeded(const base::Context& context, const Except& except,
                                    const std::string& name);
  absl::StatusOr<Dependents> FindDependents(const base::Context& context, const std::string& name,
                                            bool with_bdevs);
  std::vector<base::Uuid> CandidatesOf(const Dependents& dependents,
                                       const std::optional<base::Uuid>& except);
  bool Stays(const base::Uuid& volume) const;
  bool IsNeededBy(const std::set<base::Uuid>& users, const base::Uuid& volume,
                  const spdk::TransportAddress& address) const;
  absl::Status QueryBdevs(const base::Context& context, const std::vector<base::Uuid>& volumes);
  absl::Status QueryBdevs(const base::Context& context, const std::vector<base::Uuid>& volumes,
                          Dependents& dependents);
  absl::Status RecordHanging(const base::Uuid& volume, const std::string& name);
  absl::Status Disconnect(const base::Context& context, const std::string& name);
  absl::StatusOr<std::vector<spdk::Controller>> QueryControllers(const base::Context& context);
  std::set<std::string> KnownControllersOf(const std::string& name) const;

  jsonrpc::Caller& target_;
  record::Record& record_;
  UseCounts counts_;
  KnownObjects<spdk::DiscoveryService> services_;
  KnownObjects<spdk::Controller> controllers_;
  KnownBdevs bdevs_;
  BdevNames names_;
  base::Mutex mutex_;
  std::map<std::string, std::string, std::less<>> planned_ SMA_GUARDED_BY(mutex_);  // by key
  std::set<std::string> lingering_ SMA_GUARDED_BY(mutex_);  // kept for others, used by no volume
  base::TimePoint last_release_ SMA_GUARDED_BY(mutex_){};
};

}  // namespace sma::volume
