// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "storage_target/vfio_user/dma_map.h"
#include "storage_target/vfio_user/dma_messages.h"
#include "storage_target/vfio_user/interrupts.h"

namespace sma::storage_target::vfio_user {

/// The regions of a PCI function, as <linux/vfio.h> numbers them.
inline constexpr uint32_t kRegionCount = 9;
inline constexpr uint32_t kBar0 = 0;
inline constexpr uint32_t kBar4 = 4;
inline constexpr uint32_t kConfigRegion = 7;

/// A region of a device; a region of size 0 does not exist.
struct Region {
  uint64_t size_bytes = 0;
  /// The part that the client may map, at the same offset of the file `fd`, which the device owns.
  /// If `fd` is -1, there is none.
  int fd = -1;
  uint64_t mappable_offset_bytes = 0;
  uint64_t mappable_bytes = 0;
};

/// A PCI function that a session presents to its client. All methods run on one reactor's thread.
class Device {
 public:
  virtual ~Device() = default;

  virtual const std::string& name() const = 0;
  /// `index` is less than kRegionCount.
  virtual Region DescribeRegion(uint32_t index) const = 0;
  /// Access the region; the caller has checked that the range lies within it. Return false if the
  /// region does not support this access.
  virtual bool ReadRegion(uint32_t index, uint64_t offset, std::span<std::byte> out) = 0;
  virtual bool WriteRegion(uint32_t index, uint64_t offset, std::span<const std::byte> data) = 0;

  virtual Interrupts& interrupts() = 0;
  /// Returns the client's memory, which the session changes; a region is removed only between Pause
  /// and Resume.
  virtual DmaMap& memory() = 0;
  /// Sets the object that transfers data to and from memory that the client does not share; nullptr
  /// while there is no client. Pause does not wait for transfers that are waiting for the client.
  virtual void SetMessages(DmaMessages* messages) = 0;
  /// Starts no new requests; calls `done` (possibly before returning) when outstanding requests
  /// access the client's memory only through DmaMessages.
  virtual void Pause(std::function<void()> done) = 0;
  /// Continues after Pause; the memory may have changed. Also called without Pause when a region
  /// has been added.
  virtual void Resume() = 0;
  /// Resets the device and its configuration space to their initial state; calls `done` (possibly
  /// before returning) when no earlier request is outstanding. If a reset is in progress, `done` is
  /// called after it.
  virtual void Reset(std::function<void()> done) = 0;
};

}  // namespace sma::storage_target::vfio_user
