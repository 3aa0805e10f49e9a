// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev {

/// Limits how much of a channel's I/O is copied, encrypted or zeroed in one round of the event
/// loop, so that large I/Os leave time for other work of the reactor. The rest continues in the
/// next round (Reactor::Defer). Owned by the reactor's thread.
class Turn {
 public:
  explicit Turn(const Reactor& reactor) : reactor_(reactor) {}

  /// Returns the number of bytes that are left of this round's turn; 0 if the turn is over.
  uint64_t left_bytes() {
    const uint64_t now_ns = reactor_.now_ns();
    if (now_ns != round_ns_) {
      round_ns_ = now_ns;
      used_bytes_ = 0;
    }
    return used_bytes_ < kBytes ? kBytes - used_bytes_ : 0;
  }
  bool is_over() { return left_bytes() == 0; }
  /// Counts `bytes` as used, which may be more than are left.
  void Use(uint64_t bytes) { used_bytes_ += bytes; }

 private:
  static constexpr uint64_t kBytes = 1 << 20;

  const Reactor& reactor_;
  uint64_t round_ns_ = 0;  // the reactor's clock, which stands still within a round
  uint64_t used_bytes_ = 0;
};

}  // namespace sma::storage_target::bdev
