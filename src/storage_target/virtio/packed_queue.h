// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "storage_target/virtio/chain.h"
#include "storage_target/virtio/packed_ring.h"

namespace sma::storage_target::virtio {

class GuestMemory;

/// The device side of a packed virtqueue (Virtio 1.2 §2.8) in guest memory, which the driver may
/// change at any time: descriptors are read once and checked. Chains may be completed in any order.
/// Not thread-safe.
class PackedQueue {
 public:
  struct Options {
    PackedRing ring;                // must stay mapped while the queue is used
    PackedPosition next_available;  // indexes less than the ring size
    PackedPosition next_used;
    bool event_index = false;  // VIRTIO_F_EVENT_IDX
    bool indirect = false;     // VIRTIO_F_INDIRECT_DESC
  };

  explicit PackedQueue(const Options& options);

  /// Returns true if a chain is available.
  bool HasAvailable() const;
  /// Takes the next chain; must be called only if HasAvailable returns true. Sets its buffer ID,
  /// which is less than the ring size and not that of another chain in flight. After an error the
  /// queue can only complete requests.
  ChainError TakeChain(uint16_t& id);
  /// Returns the descriptors of the chain that was taken last, valid until the next is taken.
  std::span<const PackedDescriptor> taken() const { return {taken_.data(), taken_count_}; }
  /// Reads the chain that was taken last into `chain`.
  ChainError ReadChain(const GuestMemory& memory, Chain& chain) const;

  // Continue with the requests that a previous process took but did not complete: call first
  // BeginAt with the position, then Restore for each chain, then Retake for each chain before it is
  // read. `descriptors` has at most Chain::kMaxDescriptors elements, and all chains together have
  // at most as many as the ring. The same rules apply to IDs as in TakeChain.
  void BeginAt(PackedPosition position) { next_available_ = next_used_ = published_ = position; }
  void Restore(uint16_t id, std::span<const PackedDescriptor> descriptors);
  void Retake(std::span<const PackedDescriptor> descriptors);

  /// Marks a chain as used; the driver sees it after PublishUsed.
  void PushUsed(uint16_t id, uint32_t written_bytes);
  /// Makes all used chains visible to the driver at once. Returns true if the driver wants to be
  /// notified.
  bool PublishUsed();

  /// Enables or disables the driver's notifications of new chains. This is a hint that the driver
  /// may ignore. Check HasAvailable again after enabling.
  void EnableNotifications();
  void DisableNotifications();

  uint16_t size() const { return options_.ring.size; }
  /// Returns the position of the driver's next chain.
  PackedPosition next_available() const { return next_available_; }
  /// Returns the position of the next used descriptor, after those already pushed.
  PackedPosition next_used() const { return next_used_; }

 private:
  ChainError ReadIndirect(const PackedDescriptor& table, const GuestMemory& memory,
                          Chain& chain) const;

  const Options options_;
  PackedPosition next_available_;
  PackedPosition next_used_;
  PackedPosition published_;
  uint16_t in_flight_ = 0;  // descriptors of chains that are not published as used
  uint16_t pushed_ = 0;     // those of them that belong to pushed chains
  uint16_t first_flags_ = 0;
  std::vector<uint16_t> counts_;  // by buffer ID: number of descriptors of a chain in flight
  std::array<PackedDescriptor, Chain::kMaxDescriptors> taken_;
  uint16_t taken_count_ = 0;
};

}  // namespace sma::storage_target::virtio
