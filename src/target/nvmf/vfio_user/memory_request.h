#pragma once

#include <array>
#include <cstdint>

#include "target/nvmf/request.h"

namespace sma::target::nvmf::vfio_user {

struct UnsharedBuffer;

/// A command that came through a submission queue in the host's memory.
struct MemoryRequest : Request {
  /// More pieces of memory than this do not fit one command; Linux makes up to 127.
  static constexpr uint32_t kMaxPieces = 128;

  bool busy = false;
  bool located = false;  // `pieces` are the host's memory, in use
  uint32_t piece_count = 0;
  MemoryRequest* next_free = nullptr;
  // For room in the completion queue, or for a buffer.
  MemoryRequest* next_waiting = nullptr;
  // Some of its data are in memory that the host does not share: they go through a buffer.
  bool unshared = false;
  UnsharedBuffer* buffer = nullptr;  // UnsharedData's
  std::array<iovec, kMaxPieces> pieces;
};

}  // namespace sma::target::nvmf::vfio_user
