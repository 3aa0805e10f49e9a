// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>

// The layout of a packed virtqueue (Virtio 1.2 §2.8). Fields are little-endian, as on every
// platform for which this is built.

namespace sma::storage_target::virtio {

/// A descriptor of the ring or of an indirect table; in a table `id` and all flags but kWrite are
/// ignored.
struct PackedDescriptor {
  static constexpr uint16_t kNext = 1;   // the chain continues with the next descriptor
  static constexpr uint16_t kWrite = 2;  // device-writable; in a used descriptor: data was written
  static constexpr uint16_t kIndirect = 4;  // refers to an indirect table
  static constexpr uint16_t kAvailable = 1 << 7;
  static constexpr uint16_t kUsed = 1 << 15;
  static constexpr uint16_t kStateMask = kAvailable | kUsed;

  uint64_t address;
  uint32_t size_bytes;  // in a used descriptor: the number of bytes written
  uint16_t id;          // buffer ID; in a chain that of the last descriptor is valid
  uint16_t flags;
};
static_assert(sizeof(PackedDescriptor) == 16);

/// Return the flags of kStateMask on a lap with wrap counter `wrap`, for a descriptor that the
/// driver has made available and for one that the device has used, respectively (§2.8.1).
constexpr uint16_t AvailableState(bool wrap) {
  return wrap ? PackedDescriptor::kAvailable : PackedDescriptor::kUsed;
}
constexpr uint16_t UsedState(bool wrap) { return wrap ? PackedDescriptor::kStateMask : 0; }

/// A position on the ring with its wrap counter, which is 1 on the first lap and changes with every
/// lap.
struct PackedPosition {
  static constexpr uint16_t kIndexMask = 0x7fff;

  /// Converts from the encoding of event suppression structures and vhost-user, in which the wrap
  /// counter is bit 15.
  static constexpr PackedPosition FromBits(uint16_t bits) {
    return {.index = static_cast<uint16_t>(bits & kIndexMask), .wrap = bits > kIndexMask};
  }
  constexpr uint16_t bits() const { return static_cast<uint16_t>(index | (wrap ? 1 << 15 : 0)); }

  /// Returns the position that is `count` descriptors further on; `count` is at most `ring_size`.
  constexpr PackedPosition Plus(uint16_t count, uint16_t ring_size) const {
    const uint32_t sum = uint32_t{index} + count;
    if (sum < ring_size) return {.index = static_cast<uint16_t>(sum), .wrap = wrap};
    return {.index = static_cast<uint16_t>(sum - ring_size), .wrap = !wrap};
  }
  bool operator==(const PackedPosition&) const = default;

  uint16_t index = 0;
  bool wrap = true;
};

/// An event suppression structure (§2.8.10) in one word, which both sides read and write
/// atomically.
struct PackedEvent {
  static constexpr uint16_t kEnable = 0;      // RING_EVENT_FLAGS_ENABLE
  static constexpr uint16_t kDisable = 1;     // RING_EVENT_FLAGS_DISABLE
  static constexpr uint16_t kDescriptor = 2;  // RING_EVENT_FLAGS_DESC: at `position`
  static constexpr uint16_t kFlagsMask = 3;

  static constexpr PackedEvent FromWord(uint32_t word) {
    return {.position = PackedPosition::FromBits(static_cast<uint16_t>(word)),
            .flags = static_cast<uint16_t>(word >> 16 & kFlagsMask)};
  }
  constexpr uint32_t word() const { return uint32_t{position.bits()} | uint32_t{flags} << 16; }

  /// Returns true if the structure requests a notification when the other side has reached `now`
  /// and has passed `count` descriptors since its last check (§2.8.10.1).
  constexpr bool WantsNotification(PackedPosition now, uint16_t count, uint16_t ring_size) const {
    if (flags == kDisable) return false;
    if (flags != kDescriptor) return true;
    int behind = now.index - position.index - 1;
    if (position.wrap != now.wrap) behind += ring_size;
    return behind >= 0 && behind < count;
  }

  PackedPosition position;
  uint16_t flags = kEnable;
};

/// The addresses of the three parts of a queue in this process.
struct PackedRing {
  static constexpr size_t kMaxSize = 32768;
  static constexpr size_t kDescriptorAlignment = 16;
  static constexpr size_t kEventAlignment = 4;
  static constexpr size_t kEventBytes = 4;

  static constexpr size_t DescriptorBytes(size_t size) { return sizeof(PackedDescriptor) * size; }

  uint16_t size = 0;  // any value up to kMaxSize
  PackedDescriptor* descriptors = nullptr;
  uint32_t* driver_event = nullptr;  // selects the notifications that the driver wants
  uint32_t* device_event = nullptr;
};

}  // namespace sma::storage_target::virtio
