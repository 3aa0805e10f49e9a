// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/blk_device.h"

#include <linux/virtio_config.h>

#include <algorithm>
#include <bit>
#include <string>

#include "storage_target/bdev/bdev.h"
#include "storage_target/virtio/chain.h"

namespace sma::storage_target::virtio {
namespace {

static_assert(BlkDevice::kMaxSegments + 2 <= Chain::kMaxDescriptors);

constexpr uint64_t Bit(unsigned bit) { return uint64_t{1} << bit; }

uint64_t Features(const bdev::Bdev& bdev, bool read_only, bool packed_ring) {
  uint64_t features = Bit(VIRTIO_F_VERSION_1) | Bit(VIRTIO_F_ANY_LAYOUT) | Bit(kRingIndirect) |
                      Bit(kRingEventIndex) | Bit(VIRTIO_BLK_F_SEG_MAX) |
                      Bit(VIRTIO_BLK_F_BLK_SIZE) | Bit(VIRTIO_BLK_F_TOPOLOGY) |
                      Bit(VIRTIO_BLK_F_MQ);
  if (packed_ring) features |= Bit(kRingPacked);
  if (bdev.info().write_cache) features |= Bit(VIRTIO_BLK_F_FLUSH);
  if (read_only) return features | Bit(VIRTIO_BLK_F_RO);
  features |= Bit(VIRTIO_BLK_F_WRITE_ZEROES);
  if (bdev.Supports(bdev::IoType::kUnmap)) features |= Bit(VIRTIO_BLK_F_DISCARD);
  return features;
}

}  // namespace

BlkDevice::BlkDevice(const bdev::Bdev& bdev, bool read_only, uint16_t queue_count, bool packed_ring)
    : features(Features(bdev, read_only, packed_ring)), block_size(bdev.block_size()) {
  const bdev::Bdev::Info& info = bdev.info();
  const uint32_t block_sectors = block_size / kSectorBytes;
  config.capacity = bdev.block_count() * block_sectors;
  config.seg_max = kMaxSegments;
  config.blk_size = block_size;
  config.min_io_size = static_cast<uint16_t>(std::clamp(info.write_granularity, 1u, 0xffffu));
  config.opt_io_size = info.optimal_write_size;
  config.wce = info.write_cache;
  config.num_queues = queue_count;
  config.max_write_zeroes_sectors = kMaxZeroesSectors;
  config.max_write_zeroes_seg = 1;
  config.write_zeroes_may_unmap = info.write_zeroes_deallocates;
  config.max_discard_sectors = kMaxZeroesSectors;
  if (info.max_unmap_blocks != 0) {
    config.max_discard_sectors = static_cast<uint32_t>(
        std::min<uint64_t>(info.max_unmap_blocks * block_sectors, kMaxZeroesSectors));
  }
  config.max_discard_seg = 1;
  config.discard_sector_alignment = std::max(info.unmap_granularity, 1u) * block_sectors;
  const std::string uuid = info.uuid.ToString();
  std::copy_n(uuid.begin(), id.size(), id.begin());
}

}  // namespace sma::storage_target::virtio
