// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstdint>

#include "base/intrusive_list.h"
#include "storage_target/nvmf/request.h"

namespace sma::storage_target::nvmf::vfio_user {

struct UnsharedBuffer;

/// A command that was submitted through a submission queue in the host's memory. Linked while it
/// waits for room in the completion queue, or for a buffer.
struct MemoryRequest : Request, base::ListLink<MemoryRequest> {
  /// Maximum number of memory pieces of a command; Linux uses up to 127.
  static constexpr uint32_t kMaxPieces = 128;

  bool busy = false;
  bool located = false;  // `pieces` refers to host memory in use
  uint32_t piece_count = 0;
  MemoryRequest* next_free = nullptr;
  bool waits_for_buffer = false;
  // True if some of its data are in memory that the host does not share, so that they are
  // transferred through a buffer.
  bool unshared = false;
  UnsharedBuffer* buffer = nullptr;  // managed by UnsharedData
  std::array<iovec, kMaxPieces> pieces;
};

}  // namespace sma::storage_target::nvmf::vfio_user
