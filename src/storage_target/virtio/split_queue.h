// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>

#include "storage_target/virtio/chain.h"
#include "storage_target/virtio/split_ring.h"

namespace sma::storage_target::virtio {

class GuestMemory;

/// The device side of a split virtqueue (Virtio 1.2 §2.7) in guest memory, which the driver may
/// change at any time: indexes and descriptors are read once and checked. Not thread-safe.
class SplitQueue {
 public:
  struct Options {
    SplitRing ring;  // must stay mapped while the queue is used
    uint16_t next_available = 0;
    bool event_index = false;  // VIRTIO_F_EVENT_IDX
    bool indirect = false;     // VIRTIO_F_INDIRECT_DESC
  };

  explicit SplitQueue(const Options& options);

  /// Returns the number of heads that are available but not taken, or nullopt if the driver claims
  /// more than fit.
  std::optional<uint16_t> AvailableCount() const;
  /// Takes the next head; must be called only if AvailableCount is not 0. The value is not checked
  /// here but in ReadChain.
  uint16_t TakeHead();
  /// Reads the chain that begins at `head` into `chain`.
  ChainError ReadChain(uint16_t head, const GuestMemory& memory, Chain& chain) const;

  /// Adds a chain to the used ring; the driver sees it after PublishUsed.
  void PushUsed(uint16_t head, uint32_t written_bytes);
  /// Makes the pushed chains visible to the driver. Returns true if the driver wants to be
  /// notified.
  bool PublishUsed();

  /// Enables or disables the driver's notifications of new heads. This is a hint that the driver
  /// may ignore. Check AvailableCount again after enabling.
  void EnableNotifications();
  void DisableNotifications();

  /// Continues at this position. Must be called before the first head is taken.
  void set_next_available(uint16_t next_available) { next_available_ = next_available; }

  uint16_t size() const { return options_.ring.size; }
  /// Returns the position of the next head on the available ring, which is vhost-user's vring base.
  uint16_t next_available() const { return next_available_; }
  /// Returns the published index of the used ring.
  uint16_t used_index() const { return published_used_; }

 private:
  ChainError ReadIndirect(const Descriptor& table, const GuestMemory& memory, Chain& chain) const;

  const Options options_;
  const uint16_t mask_;
  uint16_t next_available_;
  uint16_t next_used_;
  uint16_t published_used_;
};

}  // namespace sma::storage_target::virtio
