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
  /// Where it is.
  enum class State : uint8_t {
    kWaiting,  // in SubsystemQueues, for a path
    kDelayed,  // in SubsystemQueues, until `due_ms`
    kSent,     // with the queue pair of the path `path_key`
    kLent,     // with a queue pair of another reactor, on the path `path_key`
  };

  bdev::Io* io;
  uint64_t done_blocks;
  nvme::DsmRange range;  // kUnmap: the command's data
  iovec range_iov;
  uint16_t retries;
  State state;
  bool aborted;  // no further command is sent for it
  union {
    uint32_t due_ms;    // kDelayed: milliseconds of the reactor's clock, modulo 2^32
    uint32_t path_key;  // kSent, kLent: the low half of the path's id
  };

  /// The NvmeIo in `io.scratch`, begun.
  static NvmeIo& Begin(bdev::Io& io, uint32_t nsid);
  NvmeChannel& channel() const;

  /// Builds the command for the next blocks. `force_fua`: a write is durable on completion also if
  /// the submitter did not ask for that.
  void MakeCommand(const IoLimits& limits, bool force_fua);
  /// The command succeeded: true when that was the last.
  bool Advance();

 private:
  uint32_t block_size() const;
  uint64_t MaxBlocks(const IoLimits& limits) const;
  uint64_t chunk_blocks() const;
};
static_assert(sizeof(NvmeIo) <= sizeof(bdev::Io::scratch));

/// What to do about a command that the controller completed with `status` (the status field of the
/// completion).
enum class StatusAction : uint8_t {
  kComplete,   // complete the I/O with this status
  kRetry,      // retry after a pause, on any path
  kOtherPath,  // the path cannot reach the namespace now: use another path, or pause
};
StatusAction ActionFor(uint16_t status);
/// True for the three ANA statuses (NVMe Base 2.0 §8.1.3): the ANA log page has changed.
bool IsAnaStatus(uint16_t status);
bdev::IoStatus ToIoStatus(uint16_t status);

}  // namespace sma::target::bdev_nvme
