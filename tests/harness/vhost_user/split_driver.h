#pragma once

#include <vector>

#include "harness/vhost_user/guest_ram.h"
#include "harness/vhost_user/ring_driver.h"
#include "target/virtio/split_ring.h"

namespace sma::harness {

/// The driver's side of a split virtqueue (Virtio 1.2 §2.7). A test that wants to misbehave writes
/// to ring().
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

  const target::virtio::SplitRing& ring() const { return ring_; }
  uint64_t descriptors_address() const override { return descriptors_.guest_address; }
  uint64_t available_address() const override { return available_.guest_address; }
  uint64_t used_address() const override { return used_.guest_address; }
  uint16_t size() const override { return options_.size; }
  uint32_t initial_base() const override { return 0; }

 private:
  void WriteChain(target::virtio::Descriptor* table, std::span<const DriverBuffer> buffers,
                  const uint16_t* indexes);

  const Options options_;
  GuestBuffer descriptors_;
  GuestBuffer available_;
  GuestBuffer used_;
  std::vector<GuestBuffer> tables_;  // by head
  target::virtio::SplitRing ring_;
  std::vector<uint16_t> free_;
  std::vector<std::vector<uint16_t>> chains_;  // by head: its descriptors
  uint16_t next_available_ = 0;
  uint16_t published_ = 0;
  uint16_t next_used_ = 0;
};

}  // namespace sma::harness
