// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/spdk/nvmf.h"
#include "agent/volume/discovery.h"
#include "agent/volume/remote_nodes.h"
#include "agent/volume/shared_connections.h"
#include "base/context.h"
#include "jsonrpc/caller.h"
#include "sma.pb.h"

namespace sma::volume {

/// The storage nodes behind discovery services, as failure domains. A target starts a discovery
/// service immediately, whether or not its node answers, and the call then waits for its volume.
/// While a node is known not to answer, calls that would wait only for that node fail immediately.
/// Thread-safe.
class DiscoveryNodes {
 public:
  /// All arguments must outlive this object.
  DiscoveryNodes(jsonrpc::Caller& target, SharedConnections& connections,
                 DiscoveryServices& services, RemoteNodes& nodes)
      : target_(target), connections_(connections), services_(services), nodes_(nodes) {}

  /// Call this before waiting for a volume with these parameters, and keep the returned visits
  /// while waiting. Returns UNAVAILABLE, with the reason, if none of the discovery endpoints has
  /// answered recently. Makes a remote call only to check an endpoint that has not answered.
  absl::StatusOr<std::vector<RemoteNodes::Visit>> Begin(const base::Context& context,
                                                        const VolumeParameters& params);
  /// To be called when the volume was found.
  void NoteFound(const VolumeParameters& params);
  /// To be called when the volume did not appear. `why` is the reason why the agent itself cannot
  /// connect to `address`, or empty if it can. The node counts as answering if a known controller
  /// of it is up.
  void NoteNotFound(const spdk::TransportAddress& address, const std::string& why);

 private:
  bool IsUp(const spdk::TransportAddress& address) const;

  jsonrpc::Caller& target_;
  SharedConnections& connections_;
  DiscoveryServices& services_;
  RemoteNodes& nodes_;
};

}  // namespace sma::volume
