#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace sma::harness {

/// One buffer of a chain, as a driver describes it.
struct DriverBuffer {
  uint64_t guest_address = 0;
  uint32_t size_bytes = 0;
  bool writable = false;
};

struct RingOptions {
  uint16_t size = 128;
  bool event_index = true;
  bool indirect = false;  // every chain goes through a table of its own
  bool packed = false;    // for who makes a driver of either layout
};

/// The driver's side of a virtqueue of either layout. Well-behaved by its methods.
class RingDriver {
 public:
  /// Descriptors in a table of an indirect chain.
  static constexpr size_t kTableEntries = 128;

  virtual ~RingDriver() = default;

  /// Describes a chain, not yet visible to the device. Its number: the head, or the buffer ID; less
  /// than the ring's size. nullopt when there are too few free descriptors.
  virtual std::optional<uint16_t> Add(std::span<const DriverBuffer> buffers) = 0;
  /// Makes what was added visible. True when the device wants to be notified.
  virtual bool Publish() = 0;

  struct Used {
    uint16_t head;  // what Add returned
    uint32_t written_bytes;
  };
  /// The next answer; nullopt when there is none.
  virtual std::optional<Used> PopUsed() = 0;
  /// Asks to be notified of the next answer; look at PopUsed once more afterwards.
  virtual void EnableInterrupts() = 0;
  /// Asks not to be notified.
  virtual void DisableInterrupts() = 0;
  /// What a driver that is reset forgets.
  virtual void Reset() = 0;

  // Where the parts lie, as SET_VRING_ADDR names them, and where a device begins.
  virtual uint64_t descriptors_address() const = 0;
  virtual uint64_t available_address() const = 0;
  virtual uint64_t used_address() const = 0;
  virtual uint16_t size() const = 0;
  virtual uint32_t initial_base() const = 0;
};

}  // namespace sma::harness
