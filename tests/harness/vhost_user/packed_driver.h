#pragma once

#include <vector>

#include "harness/vhost_user/guest_ram.h"
#include "harness/vhost_user/ring_driver.h"
#include "target/virtio/packed_ring.h"

namespace sma::harness {

/// The driver's side of a packed virtqueue (Virtio 1.2 §2.8). A test that wants to misbehave writes
/// to ring().
class PackedDriver final : public RingDriver {
 public:
  PackedDriver(GuestRam& ram, const RingOptions& options);

  std::optional<uint16_t> Add(std::span<const DriverBuffer> buffers) override;
  bool Publish() override;
  std::optional<Used> PopUsed() override;
  void EnableInterrupts() override;
  void DisableInterrupts() override;
  void Reset() override;

  const target::virtio::PackedRing& ring() const { return ring_; }
  /// Where the next chain goes, and where the next answer is expected.
  target::virtio::PackedPosition next_available() const { return next_available_; }
  target::virtio::PackedPosition next_used() const { return next_used_; }

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
  target::virtio::PackedRing ring_;
  std::vector<uint16_t> free_ids_;
  std::vector<uint16_t> counts_;  // by ID: descriptors of its chain
  target::virtio::PackedPosition next_available_;
  target::virtio::PackedPosition next_used_;
  uint16_t free_count_ = 0;
  uint16_t unpublished_ = 0;
  // The first descriptor that is not visible yet, and what makes it so.
  uint16_t first_index_ = 0;
  uint16_t first_flags_ = 0;
};

}  // namespace sma::harness
