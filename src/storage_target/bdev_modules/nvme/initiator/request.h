// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "base/intrusive_list.h"
#include "storage_target/nvme/command.h"

namespace sma::storage_target::initiator {

/// One command and its data. The submitter embeds it, sets the first group of members, passes it to
/// QueuePair::Submit, and accesses neither it nor the data until `done`, which runs in the queue
/// pair's thread, never before Submit has returned.
struct Request : base::ListLink<Request> {  // while the queue pair has it
  // Set by the submitter. The queue pair sets the command's CID, flags and data pointer (SGL).
  nvme::Command command;
  const iovec* iovs = nullptr;  // at least `data_bytes`; the opcode determines the direction
  uint32_t iov_count = 0;
  uint32_t data_bytes = 0;
  size_t iov_offset_bytes = 0;  // start of the data in the first of `iovs`
  /// Called with the result in `completion.status`. If the connection was lost first, the status is
  /// kHostPathingError and ConnectionLost(completion) is true. Whether the controller may still
  /// execute the command then is described at QueuePair::Close.
  void (*done)(Request& self, const nvme::Completion& completion) = nullptr;
};

/// The SQ identifier of completions that this host generated after a connection loss. No NVMe-oF
/// queue has this identifier, and completions from a controller are never forwarded with it.
inline constexpr uint16_t kLostConnectionSqId = 0xffff;
inline bool ConnectionLost(const nvme::Completion& completion) {
  return completion.sq_id == kLostConnectionSqId;
}

/// Returns true if executing the command once more, after newer ones, would change what they left.
inline bool ChangesData(const nvme::Command& command) {
  switch (static_cast<nvme::IoOpcode>(command.opcode)) {
    case nvme::IoOpcode::kRead:
    case nvme::IoOpcode::kCompare:
    case nvme::IoOpcode::kFlush:
      return false;
    default:
      return true;
  }
}

/// Returns the data direction of any command, including Fabrics commands (NVMe Base 2.0 §3.3.3.1,
/// §6).
inline nvme::Transfer TransferOf(const nvme::Command& command) {
  bool fabrics = command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kFabrics);
  return nvme::TransferOf(fabrics ? static_cast<uint8_t>(command.nsid) : command.opcode);
}

}  // namespace sma::storage_target::initiator
