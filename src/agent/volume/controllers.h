#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/spdk/bdev_nvme.h"
#include "agent/volume/remote_nodes.h"
#include "agent/volume/shared_connections.h"
#include "base/context.h"
#include "jsonrpc/caller.h"
#include "sma/outcome.h"

namespace sma::volume {

/// A remote subsystem and how to reach it.
struct RemoteSubsystem {
  std::string controller;  // the name of the connection
  std::string subnqn;
  std::string hostnqn;                            // empty: the target's own
  std::vector<spdk::TransportAddress> addresses;  // each a path
};

/// The remote subsystems that volumes are reached through without a discovery service. Volumes of
/// one subsystem share its connection. Thread-safe; a caller that waits for one subsystem delays
/// nobody who wants another.
class Controllers {
 public:
  /// All outlive this.
  Controllers(jsonrpc::Caller& target, SharedConnections& connections, RemoteNodes& nodes)
      : target_(target), connections_(connections), nodes_(nodes) {}

  /// The name of the connection to a subsystem that `volume` would use or make.
  std::string PlanName(const std::string& subnqn, const base::Uuid& volume) const;

  /// Connects the target to `subsystem` for `volume`, by each address that it is not known to be
  /// connected by, within `timeout`. Addresses that cannot be reached are tried again in the
  /// background; NOT_FOUND when that is all of them, UNAVAILABLE when none of them has answered
  /// lately. After an error, Leave.
  Outcome Join(const base::Context& context, const base::Uuid& volume,
               const RemoteSubsystem& subsystem, std::chrono::nanoseconds timeout);

  /// Makes sure that the target is connected to `subsystem`. Never waits for a node that does not
  /// answer. UNAVAILABLE: it is being connected in the background.
  absl::Status Restore(const base::Context& context, const base::Uuid& volume,
                       const RemoteSubsystem& subsystem);
  bool IsRestoring(const RemoteSubsystem& subsystem) const;

  /// Ends the attempts to connect that are made for `volume` alone. What the target does of one
  /// that was under way is told by Caller::MayActLate.
  absl::Status EndAttempts(const base::Context& context, const base::Uuid& volume,
                           const RemoteSubsystem& subsystem);

  /// EndAttempts, then SharedConnections::Leave.
  absl::Status Leave(const base::Context& context, const base::Uuid& volume,
                     const RemoteSubsystem& subsystem);

  /// The connection that a key given to RemoteNodes::SetOnRestored belongs to.
  static std::string ConnectionOf(const std::string& key);

 private:
  absl::Status Attach(const base::Context& context, const RemoteSubsystem& subsystem,
                      const spdk::TransportAddress& address);
  Outcome TryOne(const base::Context& context, const RemoteSubsystem& subsystem,
                 const spdk::TransportAddress& address);
  absl::Status RestorePath(const RemoteSubsystem& subsystem, const spdk::TransportAddress& address,
                           bool waits);
  bool HasPath(const std::string& name, const spdk::TransportAddress* address) const;
  absl::Status AddUser(const base::Context& context, const base::Uuid& volume,
                       const std::string& name);

  jsonrpc::Caller& target_;
  SharedConnections& connections_;
  RemoteNodes& nodes_;
};

}  // namespace sma::volume
