#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "target/virtio/chain.h"
#include "target/virtio/packed_ring.h"

namespace sma::target::virtio {

class GuestMemory;

/// The device's side of a packed virtqueue (Virtio 1.2 §2.8) in a guest's memory, which the driver
/// may change at any time: descriptors are read once and checked. Chains may be answered in any
/// order. One thread's.
class PackedQueue {
 public:
  struct Options {
    PackedRing ring;                // stays mapped for as long as the queue is used
    PackedPosition next_available;  // indexes less than the ring's size
    PackedPosition next_used;
    bool event_index = false;  // VIRTIO_F_EVENT_IDX
    bool indirect = false;     // VIRTIO_F_INDIRECT_DESC
  };

  explicit PackedQueue(const Options& options);

  /// Whether there is a chain to take.
  bool HasAvailable() const;
  /// Takes the next chain, only when there is one: its buffer ID, which is less than the ring's
  /// size and not that of another chain that is not answered. After an error the queue is of no
  /// use any more, but for answers.
  ChainError TakeChain(uint16_t& id);
  /// The descriptors of the chain that was taken last, until the next one is.
  std::span<const PackedDescriptor> taken() const { return {taken_.data(), taken_count_}; }
  /// Reads that chain into `chain`.
  ChainError ReadChain(const GuestMemory& memory, Chain& chain) const;

  // What a predecessor took and did not answer: first the position, then all of its chains by
  // Restore, then each of them by Retake before it is read. `descriptors`: at most as many as
  // Chain::kMaxDescriptors, and in all chains together as the ring has; ids as of TakeChain.
  void BeginAt(PackedPosition position) { next_available_ = next_used_ = published_ = position; }
  void Restore(uint16_t id, std::span<const PackedDescriptor> descriptors);
  void Retake(std::span<const PackedDescriptor> descriptors);

  /// Answers a chain, seen by the driver from PublishUsed on.
  void PushUsed(uint16_t id, uint32_t written_bytes);
  /// Shows the driver what was pushed, all at once. True when it wants to be notified of that.
  bool PublishUsed();

  /// Asks the driver to notify of new chains, or not to bother: advice, which it may not follow.
  /// After asking look at HasAvailable once more.
  void EnableNotifications();
  void DisableNotifications();

  uint16_t size() const { return options_.ring.size; }
  /// Where the driver's next chain stands.
  PackedPosition next_available() const { return next_available_; }
  /// Where the next answer goes, after those that were pushed.
  PackedPosition next_used() const { return next_used_; }

 private:
  ChainError ReadIndirect(const PackedDescriptor& table, const GuestMemory& memory,
                          Chain& chain) const;

  const Options options_;
  PackedPosition next_available_;
  PackedPosition next_used_;
  PackedPosition published_;
  uint16_t in_flight_ = 0;  // descriptors of chains whose answers are not published
  uint16_t pushed_ = 0;     // of them those of chains that are answered
  uint16_t first_flags_ = 0;
  std::vector<uint16_t> counts_;  // by buffer ID: descriptors of a chain that is not answered
  std::array<PackedDescriptor, Chain::kMaxDescriptors> taken_;
  uint16_t taken_count_ = 0;
};

}  // namespace sma::target::virtio
