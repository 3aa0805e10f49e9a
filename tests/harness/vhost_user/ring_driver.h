// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace sma::harness {

/// One buffer of a chain.
struct DriverBuffer {
  uint64_t guest_address = 0;
  uint32_t size_bytes = 0;
  bool writable = false;
};

struct RingOptions {
  uint16_t size = 128;
  bool event_index = true;
  bool indirect = false;  // every chain uses its own indirect table
  bool packed = false;    // selects the layout where a driver of either kind is created
};

/// The driver side of a virtqueue of either layout. Its methods follow the specification.
class RingDriver {
 public:
  /// The number of descriptors in an indirect table.
  static constexpr size_t kTableEntries = 128;

  virtual ~RingDriver() = default;

  /// Writes a chain that is not visible to the device yet. Returns its number, which is less than
  /// the ring's size and is either the head or the buffer ID; nullopt if there are too few free
  /// descriptors.
  virtual std::optional<uint16_t> Add(std::span<const DriverBuffer> buffers) = 0;
  /// Makes the added chains visible. Returns true if the device has requested a notification.
  virtual bool Publish() = 0;

  struct Used {
    uint16_t head;  // the result of Add
    uint32_t written_bytes;
  };
  /// Returns the next answer; nullopt if there is none.
  virtual std::optional<Used> PopUsed() = 0;
  /// Requests a notification of the next answer; call PopUsed once more afterwards.
  virtual void EnableInterrupts() = 0;
  /// Disables notifications.
  virtual void DisableInterrupts() = 0;
  /// Resets the driver's state.
  virtual void Reset() = 0;

  // Return the addresses of the parts of the ring for SET_VRING_ADDR, and the initial base.
  virtual uint64_t descriptors_address() const = 0;
  virtual uint64_t available_address() const = 0;
  virtual uint64_t used_address() const = 0;
  virtual uint16_t size() const = 0;
  virtual uint32_t initial_base() const = 0;
};

}  // namespace sma::harness
