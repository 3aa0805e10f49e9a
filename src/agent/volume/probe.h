// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "base/context.h"

namespace sma::volume {

/// The reason that WhyUnreachable returns if nobody listens at the address.
inline constexpr char kRefused[] = "the connection was refused";

/// Returns, as text for an error message, why the storage node at an IP address and TCP port may be
/// unreachable; empty if it accepts connections. The target does not report a reason, so this tries
/// a TCP connection from the agent's host, for at most one second.
std::string WhyUnreachable(const base::Context& context, const std::string& ip,
                           const std::string& port);

/// Returns the host NQN for a query on behalf of the target: `hostnqn`, or a generated one if that
/// is empty, since the agent does not know the target's own. A subsystem with a list of allowed
/// hosts refuses a generated NQN.
std::string ProbeHost(const std::string& hostnqn);

/// Returns the deadline for another query to a node that accepts connections.
base::TimePoint ProbeEnd(const base::Context& context);

}  // namespace sma::volume
