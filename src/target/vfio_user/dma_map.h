#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "target/virtio/guest_memory.h"

namespace sma::target::vfio_user {

/// What a device may do to a part of the client's memory.
enum class DmaAccessMode : uint8_t { kRead, kWrite };

/// A part of the client's memory that the device may access (vfio-user "VFIO_USER_DMA_MAP").
struct DmaRegion {
  uint64_t address = 0;
  uint64_t size_bytes = 0;
  bool readable = false;
  bool writable = false;
  /// Null: the client shares no descriptor, and every access is a message (DmaMessages).
  std::shared_ptr<const virtio::SharedMapping> mapping;
};

/// The client's memory as the device sees it. One thread's.
class DmaMap {
 public:
  /// EINVAL: no bytes, or addresses overflow; EEXIST: it overlaps another; ENOSPC: there are too
  /// many.
  int Add(DmaRegion region);
  /// The region with exactly this address and size; ENOENT when there is none.
  int Remove(uint64_t address, uint64_t size_bytes);
  void Clear() { regions_.clear(); }

  /// What lies at `address`, to the end of its region, at most `max_bytes`; empty when nothing is
  /// mapped there, or not for this access.
  std::span<std::byte> Find(uint64_t address, uint64_t max_bytes, DmaAccessMode mode) const;
  /// The same, all in one region; nullptr when they are not.
  std::byte* Translate(uint64_t address, uint64_t size_bytes, DmaAccessMode mode) const;

  /// How many of `max_bytes` at `address` are in one region that the client does not share and that
  /// may be accessed so; 0: none.
  uint64_t UnsharedBytes(uint64_t address, uint64_t max_bytes, DmaAccessMode mode) const;
  /// Whether there is any such region.
  bool has_unshared() const;

  /// False once something behind one of the mappings is gone.
  bool intact() const;
  const std::vector<DmaRegion>& regions() const { return regions_; }

 private:
  // Null: none that may be accessed so.
  const DmaRegion* RegionAt(uint64_t address, DmaAccessMode mode) const;
  const DmaRegion* RegionAt(uint64_t address) const;

  std::vector<DmaRegion> regions_;  // by address
  mutable size_t last_found_ = 0;   // most accesses are to one region
};

}  // namespace sma::target::vfio_user
