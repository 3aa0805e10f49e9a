// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>

// The layout of a split virtqueue (Virtio 1.2 §2.7). Fields are little-endian, as on every platform
// for which this is built.

namespace sma::storage_target::virtio {

struct Descriptor {
  static constexpr uint16_t kNext = 1;      // the chain continues at `next`
  static constexpr uint16_t kWrite = 2;     // device-writable
  static constexpr uint16_t kIndirect = 4;  // refers to an indirect table

  uint64_t address;
  uint32_t size_bytes;
  uint16_t flags;
  uint16_t next;
};
static_assert(sizeof(Descriptor) == 16);

struct UsedElement {
  uint32_t id;  // head of the chain
  uint32_t written_bytes;
};
static_assert(sizeof(UsedElement) == 8);

inline constexpr uint16_t kAvailableNoInterrupt = 1;  // flag of the available ring
inline constexpr uint16_t kUsedNoNotify = 1;          // flag of the used ring

/// The addresses of the three parts of a queue in this process. The available ring consists of
/// flags, index, `size` heads and used_event; the used ring of flags, index, `size` elements and
/// avail_event.
struct SplitRing {
  static constexpr size_t kMaxSize = 32768;
  static constexpr size_t kDescriptorAlignment = 16;
  static constexpr size_t kAvailableAlignment = 2;
  static constexpr size_t kUsedAlignment = 4;

  static constexpr size_t DescriptorBytes(size_t size) { return sizeof(Descriptor) * size; }
  static constexpr size_t AvailableBytes(size_t size) { return sizeof(uint16_t) * (3 + size); }
  static constexpr size_t UsedBytes(size_t size) {
    return sizeof(uint16_t) * 3 + sizeof(UsedElement) * size;
  }

  uint16_t& available_flags() const { return available[0]; }
  uint16_t& available_index() const { return available[1]; }
  uint16_t& available_head(size_t i) const { return available[2 + i]; }
  uint16_t& used_event() const { return available[2 + size]; }
  uint16_t& used_flags() const { return used[0]; }
  uint16_t& used_index() const { return used[1]; }
  UsedElement& used_element(size_t i) const {
    auto* elements = reinterpret_cast<UsedElement*>(used + 2);
    return elements[i];
  }
  uint16_t& available_event() const {
    return used[2 + sizeof(UsedElement) / sizeof(uint16_t) * size];
  }

  uint16_t size = 0;  // a power of two
  Descriptor* descriptors = nullptr;
  uint16_t* available = nullptr;
  uint16_t* used = nullptr;
};

}  // namespace sma::storage_target::virtio
