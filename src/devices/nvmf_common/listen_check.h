// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "absl/status/status.h"
#include "agent/spdk/nvmf.h"

namespace sma::nvmf_common {

/// Returns the reason why no process can listen on a TCP address, determined by binding a socket to
/// it on this host. The target runs on the same host, because it is reached through a Unix socket.
/// Returns an empty string if listening is possible, or if the address is not a TCP address. Does
/// not block.
std::string ListenFailureReason(const spdk::TransportAddress& address);

/// Adds that reason to `error`, the target's answer to a request for a listener on `address`. SPDK
/// itself answers "Invalid parameters" regardless of the reason.
absl::Status WithListenReason(const spdk::TransportAddress& address, const absl::Status& error);

}  // namespace sma::nvmf_common
