// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/intrusive_list.h"

namespace sma::storage_target::nvmf::tcp {

/// Bytes that are waiting to be sent: a PDU, or the few PDUs that complete a command. Embedded in
/// the object that owns the bytes.
struct Outgoing {
  enum class Kind : uint8_t { kR2t, kResponse, kOther };
  Kind kind = Kind::kResponse;
  uint8_t first = 0;  // first of `pieces` that is not completely sent; trimmed to its unsent part
  uint8_t count = 0;
  /// Whether pieces[1] refers to blocks in the memory of a bdev. kCopied: other reactors may write
  /// them, so they are copied before they are sent; once pieces[0] has been sent, it is reused for
  /// the copies.
  enum class Blocks : uint8_t { kNone, kInPlace, kCopied };
  Blocks blocks = Blocks::kNone;
  std::array<iovec, 3> pieces;
  Outgoing* next = nullptr;  // in the queue

  void Add(const void* bytes, size_t size_bytes) {
    pieces[count++] = {const_cast<void*>(bytes), size_bytes};
  }
  void Clear() {
    first = count = 0;
    blocks = Blocks::kNone;
  }
};

using OutgoingQueue = base::IntrusiveQueue<Outgoing>;

}  // namespace sma::storage_target::nvmf::tcp
