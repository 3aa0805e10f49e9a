// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "absl/status/status.h"
#include "agent/record/rows.h"
#include "agent/spdk/bdev.h"
#include "agent/volume/discovery.h"
#include "agent/volume/shared_connections.h"
#include "base/context.h"
#include "jsonrpc/caller.h"

namespace sma::volume {

/// Returns ALREADY_EXISTS if a bdev that the target has under a volume's name or UUID is
/// certainly not that of the remote volume: a local bdev, or one of another kind or UUID. Returns
/// OK for a local volume, and makes no remote call.
absl::Status CheckIdentity(const record::Volume& row, const spdk::Bdev& bdev);

/// Checks that the bdev found for a volume comes from a node that the volume's parameters name.
/// Returns FAILED_PRECONDITION if it comes from a node that the volume's discovery services do not
/// list, which also exports a namespace with this UUID, whoever has connected the target to it; or
/// if CheckIdentity does. Returns OK for other volumes that name no discovery service.
absl::Status CheckNode(const jsonrpc::Caller& target, SharedConnections& shared,
                       const DiscoveryServices& services, const base::Context& context,
                       const record::Volume& row, const spdk::Bdev& bdev);

}  // namespace sma::volume
