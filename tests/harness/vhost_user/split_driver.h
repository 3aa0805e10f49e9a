#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "harness/vhost_user/guest_ram.h"
#include "target/virtio/split_ring.h"

namespace sma::harness {

/// One buffer of a chain, as a driver describes it.
struct DriverBuffer {
  uint64_t guest_address = 0;
  uint32_t size_bytes = 0;
  bool writable = false;
};

/// The driver's side of a split virtqueue (Virtio 1.2 §2.7). Well-behaved by its methods; a test
/// that wants to misbehave writes to ring().
class SplitDriver {
 public:
  struct Options {
    uint16_t size = 128;
    bool event_index = true;
    bool indirect = false;  // every chain goes through a table of its own
  };

  SplitDriver(GuestRam& ram, const Options& options);

  /// Describes a chain and puts it on the available ring, not yet visible. Its head; nullopt when
  /// there are too few free descriptors.
  std::optional<uint16_t> Add(std::span<const DriverBuffer> buffers);
  /// Makes what was added visible. True when the device wants to be notified.
  bool Publish();

  struct Used {
    uint16_t head;
    uint32_t written_bytes;
  };
  /// The next answer; nullopt when there is none.
  std::optional<Used> PopUsed();
  /// Asks to be notified of the next answer; look at PopUsed once more afterwards.
  void EnableInterrupts();
  /// Asks not to be notified.
  void DisableInterrupts();

  /// What a driver that is reset forgets.
  void Reset();

  const target::virtio::SplitRing& ring() const { return ring_; }
  uint64_t descriptors_address() const { return descriptors_.guest_address; }
  uint64_t available_address() const { return available_.guest_address; }
  uint64_t used_address() const { return used_.guest_address; }
  uint16_t size() const { return options_.size; }

 private:
  static constexpr size_t kTableEntries = 128;

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
