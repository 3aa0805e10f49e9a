// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <vector>

#include "harness/vhost_user/guest_ram.h"
#include "harness/vhost_user/ring_driver.h"
#include "storage_target/virtio/packed_ring.h"

namespace sma::harness {

/// The driver side of a packed virtqueue (Virtio 1.2 §2.8). Tests of incorrect drivers write to
/// ring() directly.
class PackedDriver final : public RingDriver {
 public:
  PackedDriver(GuestRam& ram, const RingOptions& options);

  std::optional<uint16_t> Add(std::span<const DriverBuffer> buffers) override;
  bool Publish() override;
  std::optional<Used> PopUsed() override;
  void EnableInterrupts() override;
  void DisableInterrupts() override;
  void Reset() override;

  const storage_target::virtio::PackedRing& ring() const { return ring_; }
  /// Return the positions of the next chain and of the next expected answer.
  storage_target::virtio::PackedPosition next_available() const { return next_available_; }
  storage_target::virtio::PackedPosition next_used() const { return next_used_; }

  uint64_t descriptors_address() const override { return descriptors_.guest_address; }
  uint64_t available_address() const override { return driver_event_.guest_address; }
  uint64_t used_address() const override { return device_event_.guest_address; }
  uint16_t size() const override { return options_.size; }
  uint32_t initial_base() const override { return 0x8000'8000; }

 private:
  const RingOptions options_;
  GuestBuffer descriptors_;
  GuestBuffer driver_event_;
  GuestBuffer device_event_;
  std::vector<GuestBuffer> tables_;  // by ID
  storage_target::virtio::PackedRing ring_;
  std::vector<uint16_t> free_ids_;
  std::vector<uint16_t> counts_;  // number of descriptors of the chain, by ID
  storage_target::virtio::PackedPosition next_available_;
  storage_target::virtio::PackedPosition next_used_;
  uint16_t free_count_ = 0;
  uint16_t unpublished_ = 0;
  // The first descriptor that is not yet visible, and the flags that will make it visible.
  uint16_t first_index_ = 0;
  uint16_t first_flags_ = 0;
};

}  // namespace sma::harness
