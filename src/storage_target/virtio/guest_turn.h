// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "storage_target/bdev/turn.h"

namespace sma::storage_target::virtio {

/// Shares one turn of a reactor (see bdev::Turn) among the virtqueues of a guest, so that a guest
/// with many queues does not get more of the reactor than one with a single queue. A queue that
/// finds the turn used up goes first in the next round. Owned by the reactor's thread.
class GuestTurn {
 public:
  explicit GuestTurn(const Reactor& reactor) : turn_(reactor) {}

  /// Returns true if `queue`, which has available requests, may take some in this round. Otherwise
  /// it must call Begin again in the next round, or Leave.
  bool Begin(const void* queue) {
    if (first_ != nullptr && first_ != queue) return false;
    first_ = turn_.is_over() ? queue : nullptr;
    return first_ == nullptr;
  }
  /// Must be called when `queue` has no available requests, and before it is destroyed.
  void Leave(const void* queue) {
    if (first_ == queue) first_ = nullptr;
  }

  bool is_over() { return turn_.is_over(); }
  void Use(uint64_t bytes) { turn_.Use(bytes); }

 private:
  bdev::Turn turn_;
  const void* first_ = nullptr;  // the queue that goes first, because it was refused
};

}  // namespace sma::storage_target::virtio
