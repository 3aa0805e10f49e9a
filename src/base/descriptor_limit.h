#pragma once

#include <cstdint>

namespace sma::base {

/// Raises the soft limit of file descriptors (RLIMIT_NOFILE) to the hard limit, for this process
/// and the programs that it starts. Returns the limit that then holds, or the soft limit that was
/// there when the kernel refuses. Call it at start, before other threads open descriptors.
uint32_t RaiseDescriptorLimit();

/// The soft limit of file descriptors, at most INT32_MAX. Thread-safe.
uint32_t DescriptorLimit();

/// Of a limit of `limit` descriptors, those kept for the control plane (JSON-RPC connections, files
/// that its calls open): an accepted data connection may not use the last ones. The kernel gives
/// the lowest free number, so a new descriptor of `limit` minus this or more says that only the
/// reserve is left.
constexpr uint32_t DescriptorReserve(uint32_t limit) { return limit / 4 < 512 ? limit / 4 : 512; }

}  // namespace sma::base
