// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "storage_target/virtio/guest_memory.h"

namespace sma::storage_target::vfio_user {

/// The direction of a device's access to client memory.
enum class DmaAccessMode : uint8_t { kRead, kWrite };

/// A region of client memory that the device may access (vfio-user "VFIO_USER_DMA_MAP").
struct DmaRegion {
  uint64_t address = 0;
  uint64_t size_bytes = 0;
  bool readable = false;
  bool writable = false;
  /// Null if the client shares no descriptor: in that case, every access needs a message
  /// (DmaMessages).
  std::shared_ptr<const virtio::SharedMapping> mapping;
};

/// The client's memory as the device sees it. Not thread-safe.
class DmaMap {
 public:
  /// Adds a region. Errors: EINVAL if the size is 0 or addresses overflow; EEXIST if the region
  /// overlaps another; ENOSPC if there are too many regions.
  int Add(DmaRegion region);
  /// Removes the region with exactly this address and size. Returns ENOENT if there is none.
  int Remove(uint64_t address, uint64_t size_bytes);
  void Clear() { regions_.clear(); }
  /// Returns the share of the device in which the mappings of its regions count.
  const std::shared_ptr<virtio::GuardShare>& guards() const { return guards_; }

  /// Returns the memory at `address` up to the end of its region, at most `max_bytes`; empty if no
  /// region is mapped there or the region does not allow this access.
  std::span<std::byte> Find(uint64_t address, uint64_t max_bytes, DmaAccessMode mode) const;
  /// Returns the address of the whole range, or nullptr unless the range lies within one such
  /// region.
  std::byte* Translate(uint64_t address, uint64_t size_bytes, DmaAccessMode mode) const;

  /// Returns how many of `max_bytes` at `address` lie within one region that the client does not
  /// share and that allows this access; 0 if none.
  uint64_t UnsharedBytes(uint64_t address, uint64_t max_bytes, DmaAccessMode mode) const;
  /// Returns true if there is a region that the client does not share.
  bool has_unshared() const;

  /// Returns false once one of the mappings has lost its backing.
  bool intact() const;
  const std::vector<DmaRegion>& regions() const { return regions_; }

 private:
  // Returns nullptr if there is no region that allows this access.
  const DmaRegion* RegionAt(uint64_t address, DmaAccessMode mode) const;
  const DmaRegion* RegionAt(uint64_t address) const;

  const std::shared_ptr<virtio::GuardShare> guards_ = std::make_shared<virtio::GuardShare>();
  std::vector<DmaRegion> regions_;  // sorted by address
  mutable size_t last_found_ = 0;   // a cache: most accesses are to one region
};

}  // namespace sma::storage_target::vfio_user
