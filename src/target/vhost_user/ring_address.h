#pragma once

#include <cstdint>

#include "target/vhost_user/protocol.h"
#include "target/virtio/guest_memory.h"
#include "target/virtio/packed_ring.h"
#include "target/virtio/split_ring.h"

namespace sma::target::vhost_user {

// Where the parts of a ring of `size` descriptors lie in this process, from what SET_VRING_ADDR
// says; of a packed one "available" is the driver's event suppression structure and "used" the
// device's. 0; EFAULT: not in the guest's memory; EINVAL: misaligned.
int FindRing(const virtio::GuestMemory& memory, const VringAddr& addresses, uint16_t size,
             virtio::SplitRing& ring);
int FindRing(const virtio::GuestMemory& memory, const VringAddr& addresses, uint16_t size,
             virtio::PackedRing& ring);

}  // namespace sma::target::vhost_user
