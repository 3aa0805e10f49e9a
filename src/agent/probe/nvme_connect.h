// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "base/context.h"

namespace sma::probe {

/// The response of an NVMe/TCP subsystem to a Connect command. Needed because SPDK reports every
/// failure to connect to a subsystem as "Input/output error".
enum class ConnectAnswer {
  kUnknown,      // no response in time, or one not listed below
  kAccepted,     // the host may connect
  kHostRefused,  // the subsystem exists but does not allow the host
  kNoSubsystem,  // there is no subsystem with that NQN at this address
};

/// Connects an admin queue as `hostnqn` and disconnects immediately (NVMe/TCP 1.0 §3.6, NVMe Base
/// 2.0 §6.3). `ip` and `port` are numeric. Blocks at most until `deadline`.
ConnectAnswer ProbeNvmeConnect(const std::string& ip, const std::string& port,
                               const std::string& subnqn, const std::string& hostnqn,
                               base::TimePoint deadline);

}  // namespace sma::probe
