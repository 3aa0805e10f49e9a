// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <set>
#include <string>

#include "absl/status/status.h"
#include "agent/record/rows.h"
#include "agent/volume/discovery.h"
#include "agent/volume/shared_connections.h"
#include "agent/volume/shared_names.h"
#include "base/context.h"
#include "jsonrpc/caller.h"

namespace sma::volume {

/// Returns why the target has no bdev of an attached volume, according to the last description of
/// the target's connections: NOT_FOUND if all subsystems in which the volume was found, or
/// the one that it names with its addresses, are connected and do not have it; UNAVAILABLE if that
/// is not known. The message names the nodes by their addresses, and does not change as long as
/// nothing else does. Makes no remote call.
absl::Status WhyMissing(const jsonrpc::Caller& target, const SharedConnections& shared,
                        const DiscoveryServices& services, const record::Volume& row);

/// Returns the known paths of a missing volume to subsystems that may still have it: those that are
/// not connected through any path, according to the last description of the target's connections.
std::set<RemotePath> OpenPathsOf(const jsonrpc::Caller& target, const SharedConnections& shared,
                                 const record::Volume& row);

/// Returns true if there are paths, and each of their addresses answers `hostnqn` that it has no
/// such subsystem. Queries the addresses from the agent's host; blocks for about a second for each
/// of them, and until `context` is done at the latest.
bool HasNoSubsystem(const base::Context& context, const std::string& hostnqn,
                    const std::set<RemotePath>& paths);

}  // namespace sma::volume
