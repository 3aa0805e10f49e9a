#pragma once

#include <cstddef>
#include <cstdint>

// The layout of a packed virtqueue (Virtio 1.2 §2.8). Its fields are little-endian, as is every
// machine that this is built for.

namespace sma::target::virtio {

/// One of the ring, or of an indirect table, where `id` and all flags but kWrite mean nothing.
struct PackedDescriptor {
  static constexpr uint16_t kNext = 1;      // the chain goes on with the next one
  static constexpr uint16_t kWrite = 2;     // for the device to write to; used: it has written
  static constexpr uint16_t kIndirect = 4;  // holds a table of descriptors
  static constexpr uint16_t kAvailable = 1 << 7;
  static constexpr uint16_t kUsed = 1 << 15;
  static constexpr uint16_t kStateMask = kAvailable | kUsed;

  uint64_t address;
  uint32_t size_bytes;  // used: how many were written
  uint16_t id;          // of the buffer; in a chain the last one's counts
  uint16_t flags;
};
static_assert(sizeof(PackedDescriptor) == 16);

/// The flags of kStateMask on the lap of `wrap`: when the driver has made a descriptor available,
/// and when the device has used it (§2.8.1).
constexpr uint16_t AvailableState(bool wrap) {
  return wrap ? PackedDescriptor::kAvailable : PackedDescriptor::kUsed;
}
constexpr uint16_t UsedState(bool wrap) { return wrap ? PackedDescriptor::kStateMask : 0; }

/// A place on the ring and the wrap counter that belongs to it: 1 on the first lap, then changing
/// with every lap.
struct PackedPosition {
  static constexpr uint16_t kIndexMask = 0x7fff;

  /// As event suppression structures and vhost-user have it: the wrap counter in bit 15.
  static constexpr PackedPosition FromBits(uint16_t bits) {
    return {.index = static_cast<uint16_t>(bits & kIndexMask), .wrap = bits > kIndexMask};
  }
  constexpr uint16_t bits() const { return static_cast<uint16_t>(index | (wrap ? 1 << 15 : 0)); }

  /// `count` descriptors further, at most `ring_size`.
  constexpr PackedPosition Plus(uint16_t count, uint16_t ring_size) const {
    const uint32_t sum = uint32_t{index} + count;
    if (sum < ring_size) return {.index = static_cast<uint16_t>(sum), .wrap = wrap};
    return {.index = static_cast<uint16_t>(sum - ring_size), .wrap = !wrap};
  }
  bool operator==(const PackedPosition&) const = default;

  uint16_t index = 0;
  bool wrap = true;
};

/// An event suppression structure (§2.8.10) in one word, which both sides read and write at once.
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

  /// Whether it asks for a notification when the other side, which has come to `now`, has passed
  /// `count` descriptors since it looked the last time (§2.8.10.1).
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

/// Where the three parts of a queue lie in this process's memory.
struct PackedRing {
  static constexpr size_t kMaxSize = 32768;
  static constexpr size_t kDescriptorAlignment = 16;
  static constexpr size_t kEventAlignment = 4;
  static constexpr size_t kEventBytes = 4;

  static constexpr size_t DescriptorBytes(size_t size) { return sizeof(PackedDescriptor) * size; }

  uint16_t size = 0;  // any number up to kMaxSize
  PackedDescriptor* descriptors = nullptr;
  uint32_t* driver_event = nullptr;  // what the driver wants to be told
  uint32_t* device_event = nullptr;
};

}  // namespace sma::target::virtio
