// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

namespace sma::base {

/// Raises the soft limit of file descriptors (RLIMIT_NOFILE) to the hard limit, for this process
/// and the programs that it starts. Returns the new limit, or the old one if the kernel refuses.
/// Must be called at start-up, before other threads open descriptors.
uint32_t RaiseDescriptorLimit();

/// Returns the soft limit of file descriptors, at most INT32_MAX. Thread-safe.
uint32_t DescriptorLimit();

/// Returns how many of `limit` descriptors are reserved for the control plane (JSON-RPC
/// connections, and files that its calls open) and must not be used by data connections. The kernel
/// assigns the lowest free number, so a new descriptor that is not less than `limit` minus the
/// reserve shows that only the reserve is left.
constexpr uint32_t DescriptorReserve(uint32_t limit) { return limit / 4 < 512 ? limit / 4 : 512; }

/// Returns how many of the reserve are for JSON-RPC connections alone. The rest is for files and
/// sockets that their calls open.
constexpr uint32_t JsonRpcReserve(uint32_t limit) { return DescriptorReserve(limit) * 3 / 4; }

/// Returns true if `fd`, opened for a call, is one of those for JSON-RPC connections: it must be
/// closed, and the call fails with EMFILE. Returns false for a negative `fd`. Thread-safe.
bool IsReservedForJsonRpc(int fd);

}  // namespace sma::base
