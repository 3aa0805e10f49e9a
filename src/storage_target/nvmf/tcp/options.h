// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "storage_target/nvmf/options.h"

namespace sma::storage_target::nvmf::tcp {

/// The parameters of a TCP transport.
struct Options {
  TransportLimits limits;
  /// A successful read is completed by its C2HData alone, with the SUCCESS flag and without a
  /// response capsule.
  bool c2h_success = true;
  uint32_t sock_priority = 0;   // SO_PRIORITY
  uint32_t ack_timeout_ms = 0;  // TCP_USER_TIMEOUT; 0: the kernel's default
  // Options for SPDK's buffers and timers, which are reported as set but have no effect.
  uint32_t iobuf_small_cache_size = UINT32_MAX;
  uint32_t iobuf_large_cache_size = UINT32_MAX;
  bool zcopy = false;
  uint32_t abort_timeout_sec = 1;
  uint32_t data_wr_pool_size = 0;
  bool disable_command_passthru = false;
  /// Maximum number of connections; for tests. 0: derived from the process's limit of file
  /// descriptors.
  uint32_t max_connections = 0;
  /// The limit for making progress while others wait for memory, in nanoseconds; see
  /// kTransferTimeoutNs.
  uint64_t pressed_timeout_ns = 10'000'000'000;
  /// The limit from accept to a successful Connect, in nanoseconds.
  uint64_t connect_timeout_ns = 10'000'000'000;
  /// The limit for receiving a response while the removal of its namespace waits for that, in
  /// nanoseconds.
  uint64_t removal_timeout_ns = 5'000'000'000;
};

// The time limit, in nanoseconds, for a host that makes no progress: it must send the rest of a PDU
// or the data of an R2T, and receive the data that the target sends. While the connection holds
// memory for which other hosts are waiting, Options::pressed_timeout_ns applies instead, and each
// command's data must also be transferred within that time plus the time that all memory of the
// host takes at the minimum rate.
inline constexpr uint64_t kTransferTimeoutNs = 30'000'000'000;
inline constexpr uint64_t kMinPressedBytesPerSec = 1 << 20;
inline constexpr uint64_t kTerminationTimeoutNs = 10'000'000'000;  // for closing after a TermReq

}  // namespace sma::storage_target::nvmf::tcp
