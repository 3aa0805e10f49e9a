// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/uio.h>

#include <cstdint>

#include "storage_target/bdev/io.h"
#include "storage_target/nvme/command.h"

namespace sma::storage_target::nvmf {

class NamespaceEntry;
class QueuePair;

/// A command from its arrival to its completion. Transports derive from it and keep a pool of
/// requests in each queue pair, so that a command does not allocate. It is also a bdev::Io: iovs
/// and iov_count describe the command's data, in memory provided by the transport, except for a
/// read in place.
struct Request : bdev::Io {
  // Set by the transport before QueuePair::Start.
  nvme::Command command;
  uint32_t host_size = 0;  // bytes of data described by the host's SGL or PRPs
  /// The data is valid only until QueuePair::Execute returns; call QueuePair::KeepData to keep it
  /// longer.
  bool data_borrowed = false;
  /// True if the command must not read in place, so that its data must be in memory from
  /// QueuePair::AcquireBuffer. Set before QueuePair::Execute.
  bool needs_buffer = false;

  // Used by the common code of all transports.
  QueuePair* queue_pair = nullptr;
  nvme::Completion completion;
  uint32_t data_size = 0;  // bytes to transfer, set in Start; at most host_size
  nvme::Transfer transfer = nvme::Transfer::kNone;
  /// The namespace on which the command was started (NamespaceEntry::serial): the command fails if
  /// its NSID belongs to another namespace when its data has arrived.
  uint64_t namespace_serial = 0;
  NamespaceEntry* entry = nullptr;  // the namespace, while a bdev executes this command
  bool in_bdev = false;             // I/O was submitted to the bdev and has not completed
  bool held = false;                // by QueuePair::Hold
  uint64_t first_held_ns = 0;       // time of the first Hold; 0: none
  bool abort_requested = false;     // no further I/O is submitted to the bdev
  iovec in_place{};                 // what iovs points to for a read in place
  struct Dsm {
    uint32_t next_range = 0;
    nvme::Status status = nvme::Status::kSuccess;
    bool submitting = false;
    bool answered = false;
  } dsm;  // Dataset Management
};

}  // namespace sma::storage_target::nvmf
