#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/spdk/bdev_nvme.h"
#include "agent/volume/known_objects.h"
#include "agent/volume/use_counts.h"
#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/caller.h"
#include "sma/outcome.h"

namespace sma::volume {

/// A remote subsystem and how to reach it.
struct RemoteSubsystem {
  std::string subnqn;
  std::string hostnqn;                            // empty: the target's own
  std::vector<spdk::TransportAddress> addresses;  // each a path
};

/// The remote subsystems that volumes are reached through without a discovery service. Volumes of
/// one subsystem share its connection. Thread-safe; who waits for one subsystem holds up nobody who
/// wants another.
class Controllers {
 public:
  /// `target` outlives this.
  explicit Controllers(jsonrpc::Caller& target) : target_(target) {}

  /// The name that the agent gives to the connection to a subsystem.
  static std::string NameOf(const std::string& subnqn) { return "sma_" + subnqn; }

  /// Before other threads use this: what the record says.
  void AddUser(const std::string& name, const base::Uuid& volume) { counts_.Add(name, volume); }

  /// Connects the target to `subsystem` for `volume`, by each address that it is not known to be
  /// connected by, within `timeout`. Addresses that cannot be reached are logged and tried again
  /// later, by another Join; NOT_FOUND when that is all of them. After an error, Leave.
  Outcome Join(const base::Context& context, const base::Uuid& volume,
               const RemoteSubsystem& subsystem, std::chrono::nanoseconds timeout);

  /// Disconnects if `volume` was the last to use it. OK when it is not connected.
  absl::Status Leave(const base::Context& context, const base::Uuid& volume,
                     const std::string& name);

  /// Asks the target what it is connected to.
  absl::Status Look(const base::Context& context);

 private:
  absl::Status Attach(const base::Context& context, const RemoteSubsystem& subsystem,
                      const spdk::TransportAddress& address, spdk::Controller& controller);
  bool FailedLately(const std::string& name, const spdk::TransportAddress& address) const;

  jsonrpc::Caller& target_;
  UseCounts counts_;
  KnownObjects<spdk::Controller> connected_;
  mutable base::Mutex mutex_;
  /// When a path could not be connected, by the name of the controller and the path's address.
  std::map<std::string, base::TimePoint> failed_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
