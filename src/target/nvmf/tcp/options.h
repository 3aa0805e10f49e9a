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
};

// How long a host may leave things undone before its connection is closed, in nanoseconds.
inline constexpr uint64_t kConnectTimeoutNs =
    10'000'000'000;  // from accept to a successful Connect
inline constexpr uint64_t kReceiveTimeoutNs =
    30'000'000'000;  // the rest of a PDU, the data of an R2T
inline constexpr uint64_t kSendTimeoutNs =
    30'000'000'000;  // to take anything of what is to be sent
inline constexpr uint64_t kTerminationTimeoutNs = 10'000'000'000;  // to close after a TermReq

}  // namespace sma::target::nvmf::tcp
