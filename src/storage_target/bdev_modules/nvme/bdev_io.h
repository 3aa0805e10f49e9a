// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>

#include "storage_target/bdev/io.h"
#include "storage_target/bdev_modules/nvme/initiator/request.h"
#include "storage_target/nvme/command.h"

namespace sma::storage_target::bdev_nvme {

class NvmeChannel;

/// The limits of one command.
struct IoLimits {
  uint64_t transfer_bytes = 0;
  uint64_t write_zeroes_bytes = 0;
  uint64_t unmap_blocks = 0;
};

/// A bdev's I/O in a remote subsystem, stored in Io::scratch. Executed by one or more commands in
/// sequence.
struct NvmeIo : initiator::Request {
  /// Where the I/O is at present.
  enum class State : uint8_t {
    kWaiting,  // waits in SubsystemQueues for a path; `io` is in a queue there
    kDelayed,  // like kWaiting, until `due_ms`
    kSent,     // submitted to the queue pair of the path `path_key`
    kLent,     // submitted to a queue pair of another reactor, on the path `path_key`
  };

  bdev::Io* io;
  uint64_t done_blocks;
  nvme::DsmRange range;  // kUnmap: the data of the command
  iovec range_iov;
  uint16_t retries;
  State state;
  bool aborted;  // no further command is sent for it
  union {
    uint32_t due_ms;    // kDelayed: in milliseconds of the reactor's clock, modulo 2^32
    uint32_t path_key;  // kSent, kLent: PathQueue::key
  };
  // kLent: the lender was requested to abort the I/O. The I/O does not end before the lender has
  // answered, so that the lender may access it.
  bool abort_asked;
  bool answered;  // the I/O was answered in the meantime, with this result:
  bool lost;      // its connection was lost
  uint16_t answer_status;

  /// Constructs and returns the NvmeIo in `io.scratch`.
  static NvmeIo& Begin(bdev::Io& io, uint32_t nsid);
  /// Returns the NvmeIo that Begin has constructed.
  static NvmeIo& Of(bdev::Io& io);
  NvmeChannel& channel() const;

  /// Builds the command for the next blocks. With `force_fua`, a write is durable on completion
  /// even if the submitter did not request that.
  void MakeCommand(const IoLimits& limits, bool force_fua);
  /// Called when a command has succeeded. Returns true if it was the last one.
  bool Advance();

 private:
  uint32_t block_size() const;
  uint64_t MaxBlocks(const IoLimits& limits) const;
  uint64_t chunk_blocks() const;
};
static_assert(sizeof(NvmeIo) <= sizeof(bdev::Io::scratch));

/// The action to take after a command that the controller completed with a given status field.
enum class StatusAction : uint8_t {
  kComplete,   // complete the I/O with this status
  kRetry,      // retry after a pause, on any path
  kOtherPath,  // the path cannot access the namespace now: use another path, or back off
};
StatusAction ActionFor(uint16_t status);
/// Returns true for the three ANA statuses (NVMe Base 2.0 §8.1.3), which mean that the ANA log page
/// has changed.
bool IsAnaStatus(uint16_t status);
bdev::IoStatus ToIoStatus(uint16_t status);

}  // namespace sma::storage_target::bdev_nvme
