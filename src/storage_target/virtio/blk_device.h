// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <linux/virtio_blk.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sma::storage_target::bdev {
class Bdev;
}

namespace sma::storage_target::virtio {

// The feature bits of virtqueues (Virtio 1.2 §6).
inline constexpr unsigned kRingIndirect = 28;
inline constexpr unsigned kRingEventIndex = 29;
inline constexpr unsigned kRingPacked = 34;

/// The unit of virtio-blk sector numbers, independent of the block size (Virtio 1.2 §5.2.6).
inline constexpr uint32_t kSectorBytes = 512;

/// The features and configuration space of a virtio-blk device (Virtio 1.2 §5.2) that exports a
/// bdev. A value type.
///
/// VIRTIO_BLK_F_CONFIG_WCE is not offered: a front end that reconnects does not repeat the driver's
/// choice, so writes that must be durable might not be.
struct BlkDevice {
  /// The maximum number of 512-byte sectors in a discard or write-zeroes request.
  static constexpr uint32_t kMaxZeroesSectors = 1u << 22;
  /// The maximum number of data descriptors in a request, without those of header and status.
  static constexpr uint32_t kMaxSegments = 126;

  /// If `packed_ring` is set, VIRTIO_F_RING_PACKED is offered.
  BlkDevice(const bdev::Bdev& bdev, bool read_only, uint16_t queue_count, bool packed_ring = false);

  /// The feature bits of the device and its virtqueues that are offered to the driver, without
  /// those of the vhost-user protocol.
  uint64_t features = 0;
  virtio_blk_config config{};
  /// The response to VIRTIO_BLK_T_GET_ID: the first characters of the bdev's UUID. A guest thus
  /// finds its disk in /dev/disk/by-id under the name that OpenStack uses.
  std::array<char, VIRTIO_BLK_ID_BYTES> id{};
  uint32_t block_size = 512;

  std::span<const std::byte> config_bytes() const {
    return std::as_bytes(std::span<const virtio_blk_config, 1>(&config, 1));
  }
};

}  // namespace sma::storage_target::virtio
