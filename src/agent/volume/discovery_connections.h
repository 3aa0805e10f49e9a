// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/record/record.h"
#include "agent/volume/discovery.h"
#include "agent/volume/discovery_nodes.h"
#include "agent/volume/missing.h"
#include "agent/volume/remote_nodes.h"
#include "agent/volume/shared_connections.h"
#include "agent/volume/shared_names.h"
#include "base/context.h"
#include "jsonrpc/caller.h"
#include "sma.pb.h"

namespace sma::volume {

/// Manages the connections of volumes that are found through discovery services: decides which
/// services a volume joins and leaves, and checks that its bdev comes from a node that its request
/// names. Unless stated otherwise, `row` is the row of such a volume, and its `connection` is
/// updated. Thread-safe, with the locking rules of Volumes; methods with a context block until it
/// ends at the latest.
class DiscoveryConnections {
 public:
  /// All arguments must outlive this object. Reads the services of the record's volumes.
  DiscoveryConnections(jsonrpc::Caller& target, record::Record& record, SharedConnections& shared,
                       RemoteNodes& nodes);

  /// Returns the services that a volume with these parameters may use later.
  SharedNames Plan(const base::Uuid& volume, const VolumeParameters& params) const;

  /// Same contract as DiscoveryNodes::Begin.
  absl::StatusOr<std::vector<RemoteNodes::Visit>> Begin(const base::Context& context,
                                                        const VolumeParameters& params) {
    return nodes_.Begin(context, params);
  }

  /// Makes the target follow the discovery services of the volume. After an error call Leave for
  /// each name in `row.connection`.
  absl::Status Join(const base::Context& context, base::TimePoint until, record::Volume& row);

  /// To be called when the bdev of the volume has appeared. Notes that its node answers, and leaves
  /// services that refer to the one on which the volume depends.
  void NoteFound(const base::Context& context, record::Volume& row) {
    nodes_.NoteFound(row.params);
    LeaveDuplicateServices(context, row);
  }

  /// Returns true if no discovery endpoint of the volume accepts connections: it refuses those of
  /// the agent's host, or does not answer them, and as far as the last description of the
  /// controllers tells the target is not connected to it either.
  bool IsUnreachable(const base::Context& context, const record::Volume& row) const;

  /// Returns the reason why the volume was not found. `has_waited` is true if the call waited long
  /// enough to conclude which storage nodes do not answer.
  std::string WhyNotFound(const base::Context& context, const record::Volume& row, bool has_waited);

  /// Same contract as the function WhyMissing (missing.h), for any volume.
  absl::Status WhyMissing(const record::Volume& row) const {
    return volume::WhyMissing(target_, shared_, services_, row);
  }

  /// Same contract as the function OpenPathsOf (missing.h), for any volume.
  std::set<RemotePath> OpenPathsOf(const record::Volume& row) const {
    return volume::OpenPathsOf(target_, shared_, row);
  }

  /// Returns FAILED_PRECONDITION if `bdev` comes from a node that the volume does not name. Returns
  /// OK for a volume that names no discovery service.
  absl::Status Check(const base::Context& context, const record::Volume& row,
                     const spdk::Bdev& bdev);

  /// Starts missing services, and leaves those that the volume no longer needs.
  absl::Status Restore(const base::Context& context, record::Volume& row);

  /// For a directly connected volume, which may previously have depended on discovery services of
  /// other volumes: leaves those on which it no longer depends.
  absl::Status LeaveServices(const base::Context& context, record::Volume& row);

  /// Same contract as SharedConnections::Leave.
  absl::Status Leave(const base::Context& context, const base::Uuid& volume,
                     const std::string& name, bool is_going);

 private:
  absl::Status WaitForLog(const base::Context& context, const record::Volume& row,
                          const spdk::TransportAddress& next, base::TimePoint until);
  void LeaveDuplicateServices(const base::Context& context, record::Volume& row);
  absl::Status RestartServices(const base::Context& context, const record::Volume& row);
  bool IsUser(const base::Context& context, const base::Uuid& volume, const std::string& name);
  bool HasConnected(const spdk::TransportAddress& address, bool counts_host) const;
  std::string OtherHosts(const record::Volume& row) const;

  jsonrpc::Caller& target_;
  SharedConnections& shared_;
  DiscoveryServices services_;
  DiscoveryNodes nodes_;
};

}  // namespace sma::volume
