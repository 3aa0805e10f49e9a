#pragma once

#include <cstdint>
#include <optional>

#include "target/bdev/io.h"
#include "target/virtio/chain.h"

namespace sma::target::virtio {

struct BlkDevice;
class BlkQueue;

/// One request of a virtio-blk driver, as an I/O to the bdev.
struct BlkRequest : bdev::Io {
  BlkQueue* queue = nullptr;
  Chain chain;
  uint8_t* status = nullptr;   // in the guest's memory
  uint32_t written_bytes = 0;  // to the guest's memory when it succeeds, with the status
  uint16_t number = 0;         // as of Virtqueue
  bool busy = false;
};

/// Reads `request.chain` (Virtio 1.2 §5.2.6) and fills the I/O and `status`. nullopt: submit the
/// I/O; otherwise the status to answer with at once (VIRTIO_BLK_S_*). `status` stays nullptr when
/// the driver left no room for one: such a request cannot be answered. `write_through`: a write is
/// durable before it is answered.
std::optional<uint8_t> PrepareBlkRequest(const BlkDevice& device, bool write_through,
                                         BlkRequest& request);

}  // namespace sma::target::virtio
