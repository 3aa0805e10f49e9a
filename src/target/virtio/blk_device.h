#pragma once

#include <linux/virtio_blk.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sma::target::bdev {
class Bdev;
}

namespace sma::target::virtio {

// Feature bits of virtqueues (Virtio 1.2 §6).
inline constexpr unsigned kRingIndirect = 28;
inline constexpr unsigned kRingEventIndex = 29;
inline constexpr unsigned kRingPacked = 34;

/// The unit of virtio-blk's sectors, whatever the block size (Virtio 1.2 §5.2.6).
inline constexpr uint32_t kSectorBytes = 512;

/// What a virtio-blk device (Virtio 1.2 §5.2) says about a bdev. A value.
///
/// VIRTIO_BLK_F_CONFIG_WCE is not offered: a front end that reconnects does not repeat the driver's
/// choice, and writes that must be durable would not be.
struct BlkDevice {
  /// The most sectors of 512 bytes in one discard or write-zeroes request.
  static constexpr uint32_t kMaxZeroesSectors = 1u << 22;
  /// Data descriptors in one request; header and status are two more.
  static constexpr uint32_t kMaxSegments = 126;

  /// `packed_ring`: the driver may choose packed virtqueues.
  BlkDevice(const bdev::Bdev& bdev, bool read_only, uint16_t queue_count, bool packed_ring = false);

  /// Feature bits of the device and of its virtqueues, for the driver to choose from; without those
  /// of the vhost-user protocol.
  uint64_t features = 0;
  virtio_blk_config config{};
  /// What VIRTIO_BLK_T_GET_ID answers: the beginning of the bdev's UUID in text form, as OpenStack
  /// shows volumes to guests, so that a guest finds its disk below /dev/disk/by-id.
  std::array<char, VIRTIO_BLK_ID_BYTES> id{};
  uint32_t block_size = 512;

  std::span<const std::byte> config_bytes() const {
    return std::as_bytes(std::span<const virtio_blk_config, 1>(&config, 1));
  }
};

}  // namespace sma::target::virtio
