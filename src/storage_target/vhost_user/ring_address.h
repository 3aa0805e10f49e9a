// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "storage_target/vhost_user/protocol.h"
#include "storage_target/virtio/guest_memory.h"
#include "storage_target/virtio/packed_ring.h"
#include "storage_target/virtio/split_ring.h"

namespace sma::storage_target::vhost_user {

// Translates the addresses of SET_VRING_ADDR for a ring of `size` descriptors to this process. For
// a packed ring, "available" is the driver's event suppression structure and "used" the device's.
// Returns 0; EFAULT if an address is outside guest memory; EINVAL if one is misaligned.
int FindRing(const virtio::GuestMemory& memory, const VringAddr& addresses, uint16_t size,
             virtio::SplitRing& ring);
int FindRing(const virtio::GuestMemory& memory, const VringAddr& addresses, uint16_t size,
             virtio::PackedRing& ring);

}  // namespace sma::storage_target::vhost_user
