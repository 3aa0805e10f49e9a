// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/blk_request.h"

#include <linux/virtio_blk.h>

#include "storage_target/virtio/blk_device.h"

namespace sma::storage_target::virtio {
namespace {

// Returns false if the range does not consist of whole blocks of the bdev. The bdev layer checks
// that the range ends within the bdev.
bool SetRange(const BlkDevice& device, uint64_t sector, uint64_t size_bytes, bdev::Io& io) {
  const uint32_t block_sectors = device.block_size / kSectorBytes;
  if (size_bytes == 0 || size_bytes % device.block_size != 0 || sector % block_sectors != 0) {
    return false;
  }
  io.lba = sector / block_sectors;
  io.block_count = size_bytes / device.block_size;
  return true;
}

std::optional<uint8_t> PrepareTransfer(const BlkDevice& device, bool write_through,
                                       const virtio_blk_outhdr& header, BlkRequest& request) {
  const bool write = header.type == VIRTIO_BLK_T_OUT;
  std::span<iovec> data = write ? request.chain.readable() : request.chain.writable();
  const uint64_t size_bytes =
      write ? request.chain.readable_bytes() : request.chain.writable_bytes();
  if (!SetRange(device, header.sector, size_bytes, request)) return VIRTIO_BLK_S_IOERR;
  request.type = write ? bdev::IoType::kWrite : bdev::IoType::kRead;
  request.fua = write && write_through;
  request.iovs = data.data();
  request.iov_count = static_cast<uint32_t>(data.size());
  if (!write) request.written_bytes += static_cast<uint32_t>(size_bytes);
  return std::nullopt;
}

std::optional<uint8_t> PrepareZeroes(const BlkDevice& device, bool write_through, uint32_t type,
                                     BlkRequest& request) {
  const bool discard = type == VIRTIO_BLK_T_DISCARD;
  const unsigned feature = discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES;
  if ((device.features >> feature & 1) == 0) return VIRTIO_BLK_S_UNSUPP;
  virtio_blk_discard_write_zeroes segment;
  if (request.chain.readable_bytes() != sizeof segment) return VIRTIO_BLK_S_IOERR;
  request.chain.TakeFront(&segment, sizeof segment);
  const uint32_t allowed_flags = discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
  if ((segment.flags & ~allowed_flags) != 0) return VIRTIO_BLK_S_UNSUPP;
  const uint32_t max_sectors =
      discard ? device.config.max_discard_sectors : device.config.max_write_zeroes_sectors;
  if (segment.num_sectors > max_sectors ||
      !SetRange(device, segment.sector, uint64_t{segment.num_sectors} * kSectorBytes, request)) {
    return VIRTIO_BLK_S_IOERR;
  }
  request.type = discard ? bdev::IoType::kUnmap : bdev::IoType::kWriteZeroes;
  request.fua = !discard && write_through;
  request.deallocate = (segment.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) != 0;
  return std::nullopt;
}

}  // namespace

std::optional<uint8_t> PrepareBlkRequest(const BlkDevice& device, bool write_through,
                                         BlkRequest& request) {
  request.iovs = nullptr;
  request.iov_count = 0;
  request.fua = false;
  request.status = request.chain.TakeLastByte();
  request.written_bytes = sizeof *request.status;
  virtio_blk_outhdr header;
  if (request.status == nullptr || !request.chain.TakeFront(&header, sizeof header)) {
    return VIRTIO_BLK_S_IOERR;
  }
  switch (header.type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
      return PrepareTransfer(device, write_through, header, request);
    case VIRTIO_BLK_T_FLUSH:
      request.type = bdev::IoType::kFlush;
      request.lba = 0;
      request.block_count = 0;
      return std::nullopt;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
      return PrepareZeroes(device, write_through, header.type, request);
    case VIRTIO_BLK_T_GET_ID:
      request.written_bytes += static_cast<uint32_t>(
          CopyTo(request.chain.writable(), std::as_bytes(std::span(device.id))));
      return VIRTIO_BLK_S_OK;
    default:
      return VIRTIO_BLK_S_UNSUPP;
  }
}

}  // namespace sma::storage_target::virtio
