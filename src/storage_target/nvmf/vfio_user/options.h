// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "storage_target/nvmf/options.h"

namespace sma::storage_target::nvmf::vfio_user {

/// The parameters of a VFIOUSER transport.
struct Options {
  static constexpr TransportLimits DefaultLimits() {
    TransportLimits limits;
    limits.max_queue_depth = 256;
    limits.max_admin_queue_depth = 32;
    limits.in_capsule_data_size = 0;
    limits.memory_based = true;
    return limits;
  }

  TransportLimits limits = DefaultLimits();
  /// If true, the client may map the doorbells. Writing a doorbell then needs no message, but
  /// causes no event: an enabled controller is polled all the time.
  bool mappable_doorbells = false;
  /// If true, the functions have MSI instead of MSI-X, for a VMM that does not support MSI-X.
  bool msi = false;
  // Options for SPDK's buffers and timers, which are reported as set but have no effect.
  uint32_t iobuf_small_cache_size = 0;
  uint32_t iobuf_large_cache_size = 0;
  bool zcopy = false;
  uint32_t abort_timeout_sec = 0;
  uint32_t ack_timeout = 0;
  uint32_t data_wr_pool_size = 0;
  bool disable_command_passthru = false;
};

}  // namespace sma::storage_target::nvmf::vfio_user
