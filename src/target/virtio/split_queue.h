#pragma once

#include <cstdint>
#include <optional>

#include "target/virtio/chain.h"
#include "target/virtio/split_ring.h"

namespace sma::target::virtio {

class GuestMemory;

/// The device's side of a split virtqueue (Virtio 1.2 §2.7) in a guest's memory, which the driver
/// may change at any time: indexes and descriptors are read once and checked. One thread's.
class SplitQueue {
 public:
  struct Options {
    SplitRing ring;  // stays mapped for as long as the queue is used
    uint16_t next_available = 0;
    bool event_index = false;  // VIRTIO_F_EVENT_IDX
    bool indirect = false;     // VIRTIO_F_INDIRECT_DESC
  };

  explicit SplitQueue(const Options& options);

  /// How many heads are available and not taken; nullopt when the driver claims more than fit.
  std::optional<uint16_t> AvailableCount() const;
  /// The next head; only when AvailableCount said that there is one. May be any number: ReadChain
  /// checks it.
  uint16_t TakeHead();
  /// Reads the chain that begins at `head` into `chain`.
  ChainError ReadChain(uint16_t head, const GuestMemory& memory, Chain& chain) const;

  /// Puts a chain on the used ring, seen by the driver from PublishUsed on.
  void PushUsed(uint16_t head, uint32_t written_bytes);
  /// Shows the driver what was pushed. True when it wants to be notified of that.
  bool PublishUsed();

  /// Asks the driver to notify of new heads, or not to bother: advice, which it may not follow.
  /// After asking look at AvailableCount once more.
  void EnableNotifications();
  void DisableNotifications();

  /// Goes on from there; only before the first head is taken.
  void set_next_available(uint16_t next_available) { next_available_ = next_available; }

  uint16_t size() const { return options_.ring.size; }
  /// Where the next head stands on the available ring: vhost-user's vring base.
  uint16_t next_available() const { return next_available_; }
  /// The used ring's index, of what was published.
  uint16_t used_index() const { return published_used_; }

 private:
  ChainError ReadIndirect(const Descriptor& table, const GuestMemory& memory, Chain& chain) const;

  const Options options_;
  const uint16_t mask_;
  uint16_t next_available_;
  uint16_t next_used_;
  uint16_t published_used_;
};

}  // namespace sma::target::virtio
