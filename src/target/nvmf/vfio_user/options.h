#pragma once

#include <cstdint>

#include "target/nvmf/options.h"

namespace sma::target::nvmf::vfio_user {

/// What a VFIOUSER transport is made with.
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
  /// The client may map the doorbells. Writing them then costs the guest nothing, and tells nobody:
  /// an enabled controller is polled all the time.
  bool mappable_doorbells = false;
  /// The functions have MSI in place of MSI-X: for a VMM that cannot do with MSI-X.
  bool msi = false;
  // Settings of SPDK's own buffers and timers: shown again, without effect.
  uint32_t iobuf_small_cache_size = 0;
  uint32_t iobuf_large_cache_size = 0;
  bool zcopy = false;
  uint32_t abort_timeout_sec = 0;
  uint32_t ack_timeout = 0;
  uint32_t data_wr_pool_size = 0;
  bool disable_command_passthru = false;
};

}  // namespace sma::target::nvmf::vfio_user
