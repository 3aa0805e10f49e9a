// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/spdk/bdev_nvme.h"
#include "agent/volume/remote_nodes.h"
#include "agent/volume/shared_connections.h"
#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/caller.h"
#include "sma/outcome.h"

namespace sma::volume {

/// A remote subsystem and its addresses.
struct RemoteSubsystem {
  std::string controller;  // name of the connection
  std::string subnqn;
  std::string hostnqn;                            // empty: the target's own host NQN
  std::vector<spdk::TransportAddress> addresses;  // one path each
};

/// How a volume joins a subsystem's connection.
struct JoinOptions {
  std::chrono::nanoseconds timeout;
  /// Whether a path has to be up; otherwise the connection only has to exist.
  bool needs_path = true;
};

/// What a call has done to the connection that it joined.
struct JoinedPaths {
  /// Paths that were added, or are being added in the background.
  std::vector<spdk::TransportAddress> added;
  /// Whether the connection had paths before, none of them at an address of the call: another
  /// storage node may have a subsystem of the same name.
  bool may_be_another = false;
};

/// Connections to remote subsystems that are attached by address, without a discovery service.
/// Volumes in one subsystem share its connection. Thread-safe; a caller that waits for one
/// subsystem does not delay callers for others.
class Controllers {
 public:
  /// All arguments must outlive this object.
  Controllers(jsonrpc::Caller& target, SharedConnections& connections, RemoteNodes& nodes)
      : target_(target), connections_(connections), nodes_(nodes) {}

  /// Returns the name of the connection to a subsystem at these addresses that `volume` would use
  /// or create.
  std::string PlanName(const std::string& subnqn, const base::Uuid& volume,
                       const std::vector<spdk::TransportAddress>& addresses) const;

  /// Returns the name of a connection to a subsystem whose NQN another subsystem has, too.
  static std::string SeparateName(const std::string& subnqn, const base::Uuid& volume);

  /// Connects the target to `subsystem` on behalf of `volume`, through each address that is not
  /// known to be connected, within the time limit. Addresses that cannot be reached are retried in
  /// the background. If none can be reached, returns NOT_FOUND, or UNAVAILABLE if none answers.
  /// After an error call RemovePaths and Leave.
  Outcome Join(const base::Context& context, const base::Uuid& volume,
               const RemoteSubsystem& subsystem, const JoinOptions& options, JoinedPaths& joined);

  /// Removes paths that a call that failed has added to a connection, and ends the attempts to
  /// connect them, except those at addresses of other volumes. `is_going` is true if the call then
  /// calls Leave, which releases the paths with the connection if no other volume uses it.
  absl::Status RemovePaths(const base::Context& context, const base::Uuid& volume,
                           const RemoteSubsystem& subsystem,
                           const std::vector<spdk::TransportAddress>& paths, bool is_going);

  /// Recreates missing paths to `subsystem`. Never waits for a node that does not answer: returns
  /// UNAVAILABLE while the subsystem is being connected in the background.
  absl::Status Restore(const base::Context& context, const base::Uuid& volume,
                       const RemoteSubsystem& subsystem);
  bool IsRestoring(const RemoteSubsystem& subsystem) const;

  /// To be called for a missing volume whose connection exists: connects the subsystem anew, since
  /// the target skips a namespace of which another controller had the bdev, even if that one has
  /// been removed since. Does nothing if anybody depends on the connection or no path is up, and
  /// after the first time until NoteBdevExists is called.
  absl::Status Reconnect(const base::Context& context, const base::Uuid& volume,
                         const RemoteSubsystem& subsystem);
  /// To be called when the bdev of the volume exists.
  void NoteBdevExists(const base::Uuid& volume);

  /// Ends attempts to connect to addresses that only `volume` names. Caller::MayActLate returns
  /// true while the target may still act on an attempt that was in progress.
  absl::Status EndAttempts(const base::Context& context, const base::Uuid& volume,
                           const RemoteSubsystem& subsystem);

  /// Calls EndAttempts and then SharedConnections::Leave.
  absl::Status Leave(const base::Context& context, const base::Uuid& volume,
                     const RemoteSubsystem& subsystem);

  /// Returns the name of the connection to which a key of RemoteNodes::SetOnRestored belongs.
  static std::string ConnectionOf(const std::string& key);

 private:
  absl::StatusOr<bool> Attach(const base::Context& context, const RemoteSubsystem& subsystem,
                              const spdk::TransportAddress& address);
  // The attempts to attach the addresses of a subsystem.
  struct Attempts {
    std::vector<std::string> errors;
    std::vector<spdk::TransportAddress> failed;
    bool any_connected = false;
    bool any_answered = false;  // one of the failures was an answer of the node
    bool any_unknown = false;
  };
  Outcome TryAll(const base::Context& context, const RemoteSubsystem& subsystem,
                 std::chrono::nanoseconds timeout, JoinedPaths& joined, Attempts& attempts);
  Outcome TryOne(const base::Context& context, const RemoteSubsystem& subsystem,
                 const spdk::TransportAddress& address, JoinedPaths& joined);
  bool WaitForPath(const base::Context& context, const RemoteSubsystem& subsystem,
                   std::vector<std::string>& errors);
  absl::Status RestorePath(const RemoteSubsystem& subsystem, const spdk::TransportAddress& address,
                           bool waits);
  bool IsUp(const std::string& name) const;
  bool HasPath(const std::string& name, const spdk::TransportAddress* address) const;
  absl::Status AddUser(const base::Context& context, const base::Uuid& volume,
                       const std::string& name);

  jsonrpc::Caller& target_;
  SharedConnections& connections_;
  RemoteNodes& nodes_;
  base::Mutex mutex_;
  std::set<base::Uuid> reconnected_for_ SMA_GUARDED_BY(mutex_);  // missing volumes
};

}  // namespace sma::volume
