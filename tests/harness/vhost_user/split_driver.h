// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <vector>

#include "harness/vhost_user/guest_ram.h"
#include "harness/vhost_user/ring_driver.h"
#include "storage_target/virtio/split_ring.h"

namespace sma::harness {

/// The driver side of a split virtqueue (Virtio 1.2 §2.7). Tests of incorrect drivers write to
/// ring() directly.
class SplitDriver final : public RingDriver {
 public:
  using Options = RingOptions;

  SplitDriver(GuestRam& ram, const Options& options);

  std::optional<uint16_t> Add(std::span<const DriverBuffer> buffers) override;
  bool Publish() override;
  std::optional<Used> PopUsed() override;
  void EnableInterrupts() override;
  void DisableInterrupts() override;
  void Reset() override;

  const storage_target::virtio::SplitRing& ring() const { return ring_; }
  uint64_t descriptors_address() const override { return descriptors_.guest_address; }
  uint64_t available_address() const override { return available_.guest_address; }
  uint64_t used_address() const override { return used_.guest_address; }
  uint16_t size() const override { return options_.size; }
  uint32_t initial_base() const override { return 0; }

 private:
  void WriteChain(storage_target::virtio::Descriptor* table, std::span<const DriverBuffer> buffers,
                  const uint16_t* indexes);

  const Options options_;
  GuestBuffer descriptors_;
  GuestBuffer available_;
  GuestBuffer used_;
  std::vector<GuestBuffer> tables_;  // by head
  storage_target::virtio::SplitRing ring_;
  std::vector<uint16_t> free_;
  std::vector<std::vector<uint16_t>> chains_;  // descriptors of the chain, by head
  uint16_t next_available_ = 0;
  uint16_t published_ = 0;
  uint16_t next_used_ = 0;
};

}  // namespace sma::harness
