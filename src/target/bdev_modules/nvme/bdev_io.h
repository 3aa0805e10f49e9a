#pragma once

#include <cstddef>
#include <cstdint>

#include "target/bdev/io.h"
#include "target/bdev_modules/nvme/initiator/request.h"
#include "target/nvme/command.h"

namespace sma::target::bdev_nvme {

class NvmeChannel;

/// What one command may carry.
struct IoLimits {
  uint64_t transfer_bytes = 0;
  uint64_t write_zeroes_bytes = 0;
  uint64_t unmap_blocks = 0;
};

/// A bdev's I/O on its way through a controller, in Io::scratch: one command after the other when
/// one is not enough.
struct NvmeIo : initiator::Request {
  bdev::Io* io;
  uint64_t done_blocks;
  nvme::DsmRange range;  // kUnmap: the command's data
  iovec range_iov;
  int32_t retries;

  /// The NvmeIo in `io.scratch`, begun.
  static NvmeIo& Begin(bdev::Io& io, uint32_t nsid);
  NvmeChannel& channel() const;

  /// Makes the command for the blocks that come next.
  void MakeCommand(const IoLimits& limits);
  /// The command succeeded: true when that was the last.
  bool Advance();

 private:
  uint32_t block_size() const;
  uint64_t MaxBlocks(const IoLimits& limits) const;
  uint64_t chunk_blocks() const;
};
static_assert(sizeof(NvmeIo) <= sizeof(bdev::Io::scratch));

/// What becomes of an I/O whose command ended with `status` (NVMe's status field).
enum class Verdict : uint8_t {
  kFinal,      // it ends so
  kRetry,      // worth another attempt, a moment later
  kOtherPath,  // the connection was lost: the I/O waits for another
};
Verdict Judge(uint16_t status);
bdev::IoStatus ToIoStatus(uint16_t status);

}  // namespace sma::target::bdev_nvme
