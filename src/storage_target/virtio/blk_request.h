// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>

#include "storage_target/bdev/io.h"
#include "storage_target/virtio/chain.h"

namespace sma::storage_target::virtio {

struct BlkDevice;
class BlkQueue;

/// A request of a virtio-blk driver and its I/O to the bdev.
struct BlkRequest : bdev::Io {
  BlkQueue* queue = nullptr;
  Chain chain;
  uint8_t* status = nullptr;  // in the guest's memory
  uint32_t written_bytes =
      0;                // bytes written to guest memory on success, including the status byte
  uint16_t number = 0;  // see Virtqueue
  bool busy = false;
};

/// Parses `request.chain` (Virtio 1.2 §5.2.6) and sets up the I/O and `status`. Returns nullopt if
/// the I/O is to be submitted, otherwise the status (VIRTIO_BLK_S_*) with which the request must be
/// completed immediately. `status` remains nullptr if the chain has no room for the status byte;
/// such a request cannot be completed. If `write_through` is set, a write completes only when it is
/// durable.
std::optional<uint8_t> PrepareBlkRequest(const BlkDevice& device, bool write_through,
                                         BlkRequest& request);

}  // namespace sma::storage_target::virtio
