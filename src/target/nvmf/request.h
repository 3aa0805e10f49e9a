#pragma once

#include <sys/uio.h>

#include <cstdint>

#include "target/bdev/io.h"
#include "target/nvme/command.h"

namespace sma::target::nvmf {

class NamespaceEntry;
class QueuePair;

/// A command from its arrival to its completion. Transports derive from it and keep a pool of them
/// in each queue pair, so that a command allocates nothing. It is a bdev::Io as well: iovs and
/// iov_count describe the command's data, in memory that the transport provides, except for a read
/// in place.
struct Request : bdev::Io {
  // The transport's, before QueuePair::Start.
  nvme::Command command;
  uint32_t host_size = 0;  // bytes of data that the host's SGL or PRPs describe
  /// The data are valid only until QueuePair::Execute returns: who needs them longer calls
  /// QueuePair::KeepData.
  bool data_borrowed = false;
  /// The transport has no place to read data to from where the medium has them: they have to be in
  /// memory that QueuePair::AcquireBuffer gives. Until QueuePair::Execute.
  bool needs_buffer = false;

  // The core's.
  QueuePair* queue_pair = nullptr;
  nvme::Completion completion;
  uint32_t data_size = 0;  // bytes to move, known from Start on; the host's size at most
  nvme::Transfer transfer = nvme::Transfer::kNone;
  /// The namespace that the command was started on (NamespaceEntry::serial): it belongs to that,
  /// whatever has its NSID when the data have come.
  uint64_t namespace_serial = 0;
  NamespaceEntry* entry = nullptr;  // the namespace, while a bdev works for this command
  bool in_bdev = false;             // the bdev has been given I/O and will answer
  bool abort_requested = false;     // nothing more is given to the bdev
  iovec in_place{};                 // what iovs points to for a read in place
  struct Dsm {
    uint32_t next_range = 0;
    nvme::Status status = nvme::Status::kSuccess;
    bool submitting = false;
    bool answered = false;
  } dsm;  // Dataset Management
};

}  // namespace sma::target::nvmf
