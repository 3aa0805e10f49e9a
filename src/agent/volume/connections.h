#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/record/record.h"
#include "agent/volume/controllers.h"
#include "agent/volume/discovery.h"
#include "agent/volume/iscsi_units.h"
#include "agent/volume/remote_nodes.h"
#include "agent/volume/shared_connections.h"
#include "base/context.h"
#include "jsonrpc/caller.h"
#include "sma.pb.h"
#include "sma/outcome.h"

namespace sma::volume {

/// The connections to volumes on other machines: what `row.params` asks for becomes a bdev whose
/// name or alias is the volume's id. Nothing is connected for a volume that is a bdev of the
/// target's own. Thread-safe, as Volumes is; the methods block.
class Connections {
 public:
  /// The secrets of the connection of a row.
  using SecretsOf = std::function<absl::StatusOr<VolumeParameters>(const record::Volume& row)>;

  /// `target` and `record` outlive this.
  Connections(std::chrono::nanoseconds timeout, jsonrpc::Caller& target, record::Record& record,
              SecretsOf secrets_of);

  /// What a volume that is connected like this may come to use: record::Volume::connection.
  std::string Plan(const base::Uuid& volume, const VolumeParameters& params) const;

  /// Connects, and waits for the bdev; `row.connection` is then what it uses and hangs on. After an
  /// error: Release, unless it is ALREADY_EXISTS, where nothing was done. NOT_FOUND: it did not
  /// appear in time, and why. INVALID_ARGUMENT: it is not in the subsystem asked for.
  /// ALREADY_EXISTS: another bdev has the name, or another volume is the same logical unit.
  /// UNAVAILABLE: the storage node has not answered lately.
  Outcome Connect(const base::Context& context, const VolumeParameters& secrets,
                  record::Volume& row);

  /// Connects an attached volume in the ways of `asked` besides those that it has, makes sure of
  /// the others as Restore does, and waits for the bdev. What it may come to use is in the record
  /// before. INVALID_ARGUMENT: `asked` is another kind of connection, or another subsystem or
  /// logical unit.
  absl::Status Extend(const base::Context& context, const VolumeParameters& asked,
                      const VolumeParameters& secrets, record::Volume& row);

  /// Disconnects what no other volume uses or hangs on. OK when there is nothing left to do.
  absl::Status Release(const base::Context& context, const record::Volume& row);

  /// Ends attempts to connect the volume that are made for it alone.
  absl::Status EndAttempts(const base::Context& context, const record::Volume& row);

  /// While a volume is taken off its device: where no path to it is up, and nothing else hangs on
  /// its connection, releases that. I/O that waits for the remote then fails. Sends `before` to the
  /// target together with that. `only_known`: goes by what is known of the paths; else the target
  /// is asked.
  absl::Status ReleaseIfDown(const base::Context& context, const record::Volume& row,
                             std::vector<jsonrpc::Request> before, bool only_known);

  /// Asks the target what it is connected to, where any of `rows` needs to know.
  absl::Status Look(const base::Context& context, const std::vector<record::Volume>& rows);

  /// Makes again what is missing of the connection of an attached volume. Never waits for a node
  /// that does not answer. UNAVAILABLE: it is being connected in the background.
  absl::Status Restore(const base::Context& context, record::Volume& row);
  /// Whether attempts to connect the volume are made in the background.
  bool IsRestoring(const record::Volume& row) const;

  SharedConnections& shared() { return shared_; }
  RemoteNodes& nodes() { return nodes_; }
  /// The volumes that a connection was restored for: of a key given to RemoteNodes.
  std::vector<base::Uuid> VolumesOf(const std::string& key);

 private:
  absl::Status JoinServices(const base::Context& context, base::TimePoint until,
                            record::Volume& row);
  absl::Status WaitForLog(const base::Context& context, const record::Volume& row,
                          const spdk::TransportAddress& next, base::TimePoint until);
  absl::Status LeaveServices(const base::Context& context, record::Volume& row);
  absl::Status RestoreServices(const base::Context& context, record::Volume& row);
  bool IsUser(const base::Context& context, const base::Uuid& volume, const std::string& name);
  absl::Status KickServices(const base::Context& context, const record::Volume& row);
  RemoteSubsystem SubsystemOf(const record::Volume& row) const;
  absl::Status CheckNode(const base::Context& context, const record::Volume& row,
                         const spdk::Bdev& bdev);
  absl::Status CheckPaths(const record::Volume& row, const std::string& controller,
                          const std::set<std::string>& nqns, const std::set<std::string>& hosts);
  std::string WhyNotFound(const base::Context& context, const record::Volume& row);
  /// Services that ask as another host than the volume's; to be added to a message.
  std::string OtherHosts(const record::Volume& row) const;
  absl::Status WaitForBdev(const base::Context& context, const std::string& subnqn,
                           record::Volume& row, base::TimePoint until);
  absl::Status WriteConnection(const record::Volume& row, std::string connection);
  SharedNames NamesOf(const record::Volume& row) const;
  absl::Status Leave(const base::Context& context, const record::Volume& row,
                     const std::string& name, bool is_going = true);

  const std::chrono::nanoseconds timeout_;
  jsonrpc::Caller& target_;
  record::Record& record_;
  SharedConnections shared_;
  DiscoveryServices services_;
  RemoteNodes nodes_;  // its threads use what is before it
  Controllers controllers_;
  IscsiUnits units_;
};

}  // namespace sma::volume
