// SPDX-License-Identifier: Apache-2.0

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
#include "agent/volume/discovery_connections.h"
#include "agent/volume/iscsi_units.h"
#include "agent/volume/remote_nodes.h"
#include "agent/volume/request.h"
#include "agent/volume/shared_connections.h"
#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/caller.h"
#include "sma.pb.h"
#include "sma/outcome.h"

namespace sma::volume {

/// Connections to volumes on storage nodes: creates a bdev, whose name or alias is the volume's id,
/// according to the connection parameters in `row.params`. Does nothing for a volume that is a
/// local bdev of the target. Thread-safe, with the locking rules of Volumes; the methods block.
class Connections {
 public:
  /// Returns the secrets of the connection of a row.
  using SecretsOf = std::function<absl::StatusOr<VolumeParameters>(const record::Volume& row)>;

  /// `target` and `record` must outlive this object.
  Connections(std::chrono::nanoseconds timeout, jsonrpc::Caller& target, record::Record& record,
              SecretsOf secrets_of);

  /// Returns the names of the connections that a volume with these parameters may use later, in the
  /// form of record::Volume::connection.
  std::string Plan(const base::Uuid& volume, const VolumeParameters& params) const;

  /// Connects a volume and waits for its bdev; `row.connection` then names the connections that it
  /// uses and depends on. After an error call Release, except after ALREADY_EXISTS, when nothing
  /// was done. Returns NOT_FOUND, with the reason, if the bdev did not appear in time;
  /// INVALID_ARGUMENT if the volume is not in the requested subsystem; ALREADY_EXISTS if another
  /// bdev has the name or another volume is the same logical unit; UNAVAILABLE if the storage node
  /// has not answered recently.
  Outcome Connect(const base::Context& context, const VolumeParameters& secrets,
                  record::Volume& row);

  /// Connects an attached volume through the addresses in `asked` as well, restores its other
  /// connections as Restore does, and waits for the bdev. The names of new connections are written
  /// to the record first. Returns INVALID_ARGUMENT if `asked` is a different kind of connection or
  /// names a different subsystem or logical unit.
  absl::Status Extend(const base::Context& context, const VolumeParameters& asked,
                      const VolumeParameters& secrets, record::Volume& row);

  /// Releases the connections that no other volume uses or depends on. Returns OK if none are left.
  absl::Status Release(const base::Context& context, const record::Volume& row);

  /// Ends attempts to connect that are made for this volume alone.
  absl::Status EndAttempts(const base::Context& context, const record::Volume& row);

  /// Returns the requests that remove what is on top of a volume's bdev.
  using RemovalOf = std::function<std::vector<jsonrpc::Request>(const record::Volume& row)>;
  /// Called while a volume is being detached from its device: releases the volume's connections if
  /// none of its paths is up and no other volume depends on them, except volumes that are being
  /// detached as well. I/O that waits for the storage node then fails. In the same batch, before,
  /// sends the requests that `removal_of` returns for these volumes. If `only_known` is set, uses
  /// the known state of the paths instead of querying the target first.
  absl::Status ReleaseIfDown(const base::Context& context, const record::Volume& row,
                             const RemovalOf& removal_of, bool only_known);

  /// Queries the target's connections, if any of `rows` depends on one.
  absl::Status Refresh(const base::Context& context, const std::vector<record::Volume>& rows);

  /// See IscsiUnits::AcceptsLogin.
  static bool AcceptsLogin(const base::Context& context, const record::Volume& row,
                           const VolumeRequest& login) {
    return IscsiUnits::AcceptsLogin(context, row, login);
  }

  /// Recreates the missing connections of an attached volume. Never waits for a node that does not
  /// answer: returns UNAVAILABLE while the volume is being connected in the background.
  absl::Status Restore(const base::Context& context, record::Volume& row);
  /// Returns true while the volume is being connected in the background.
  bool IsRestoring(const record::Volume& row) const;

  /// Same contract as the function WhyMissing (missing.h).
  absl::Status WhyMissing(const record::Volume& row) const { return discovery_.WhyMissing(row); }
  /// Returns true if the storage nodes of an attached volume without a bdev answer, and say that
  /// they do not have it. Queries the target and, unless they are known not to answer, the nodes.
  bool IsGone(const base::Context& context, const record::Volume& row);

  SharedConnections& shared() { return shared_; }
  RemoteNodes& nodes() { return nodes_; }
  /// Returns the volumes that use the connection with the RemoteNodes key `key`.
  std::vector<base::Uuid> VolumesOf(const std::string& key);

 private:
  RemoteSubsystem SubsystemOf(const record::Volume& row) const;
  absl::Status CheckPathUp(const base::Context& context, const record::Volume& row);
  absl::Status CheckNotLocal(const base::Context& context, const record::Volume& row);
  Outcome ConnectDirect(const base::Context& context, base::TimePoint until, record::Volume& row);
  absl::Status UndoExtend(const record::Volume& before,
                          const std::vector<spdk::TransportAddress>& added, record::Volume& row);
  absl::Status WhyNotFound(const base::Context& context, const record::Volume& row, bool has_waited,
                           bool is_cut_off);
  absl::Status WaitForBdev(const base::Context& context, const std::string& subnqn,
                           record::Volume& row, base::TimePoint until);
  absl::Status WriteConnection(const record::Volume& row, std::string connection);
  absl::Status ReleaseAllAtOnce(const base::Context& context, const record::Volume& row,
                                const std::vector<std::string>& names, const RemovalOf& removal_of);
  SharedNames NamesOf(const record::Volume& row) const;
  void ForgetOldPaths(const base::Context& context, const record::Volume& row);
  bool IsRefuted(const base::Context& context, const record::Volume& row, const RemotePath& lost);
  absl::Status Leave(const base::Context& context, const record::Volume& row,
                     const std::string& name, bool is_going = true);

  const std::chrono::nanoseconds timeout_;
  jsonrpc::Caller& target_;
  record::Record& record_;
  SharedConnections shared_;
  RemoteNodes nodes_;  // declared last, because its threads use the members above
  DiscoveryConnections discovery_;
  Controllers controllers_;
  IscsiUnits units_;
  base::Mutex mutex_;
  // When lost paths that nobody has refuted may be queried again.
  std::map<RemotePath, base::TimePoint> next_probe_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::volume
