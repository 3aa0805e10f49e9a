#pragma once

#include <cstdint>

#include "target/nvmf/options.h"

namespace sma::target::nvmf::tcp {

/// What a TCP transport is made with.
struct Options {
  TransportLimits limits;
  /// A read that succeeds is answered by its data alone, with the SUCCESS flag, without a response
  /// capsule.
  bool c2h_success = true;
  uint32_t sock_priority = 0;   // SO_PRIORITY
  uint32_t ack_timeout_ms = 0;  // TCP_USER_TIMEOUT; 0: the kernel's
  // Settings of SPDK's own buffers and timers: shown again, without effect.
  uint32_t iobuf_small_cache_size = UINT32_MAX;
  uint32_t iobuf_large_cache_size = UINT32_MAX;
  bool zcopy = false;
  uint32_t abort_timeout_sec = 1;
  uint32_t data_wr_pool_size = 0;
  bool disable_command_passthru = false;
  /// Bounds of the connections; for tests. 0: from the process's limit of descriptors.
  uint32_t max_connections = 0;
};

// How long a host may leave things undone before its connection is closed, in nanoseconds.
inline constexpr uint64_t kConnectTimeoutNs =
    10'000'000'000;  // from accept to a successful Connect
// To send anything of the rest of a PDU or of the data of an R2T; to take anything of what it is
// sent. The second while it keeps memory that other connections wait for.
inline constexpr uint64_t kTransferTimeoutNs = 30'000'000'000;
inline constexpr uint64_t kPressedTimeoutNs = 5'000'000'000;
inline constexpr uint64_t kTerminationTimeoutNs = 10'000'000'000;  // to close after a TermReq

}  // namespace sma::target::nvmf::tcp
