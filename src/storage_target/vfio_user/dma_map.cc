// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vfio_user/dma_map.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include "storage_target/vfio_user/version.h"

namespace sma::storage_target::vfio_user {

int DmaMap::Add(DmaRegion region) {
  if (region.size_bytes == 0 ||
      region.address > std::numeric_limits<uint64_t>::max() - region.size_bytes) {
    return EINVAL;
  }
  auto place = std::ranges::upper_bound(regions_, region.address, {}, &DmaRegion::address);
  if (place != regions_.end() && place->address < region.address + region.size_bytes) return EEXIST;
  if (place != regions_.begin()) {
    const DmaRegion& before = *std::prev(place);
    if (before.address + before.size_bytes > region.address) return EEXIST;
  }
  if (regions_.size() >= kMaxDmaRegions) return ENOSPC;
  regions_.insert(place, std::move(region));
  return 0;
}

int DmaMap::Remove(uint64_t address, uint64_t size_bytes) {
  size_t removed = std::erase_if(regions_, [&](const DmaRegion& region) {
    return region.address == address && region.size_bytes == size_bytes;
  });
  return removed == 0 ? ENOENT : 0;
}

const DmaRegion* DmaMap::RegionAt(uint64_t address) const {
  auto holds = [address](const DmaRegion& region) {
    return address >= region.address && address - region.address < region.size_bytes;
  };
  if (last_found_ < regions_.size() && holds(regions_[last_found_])) return &regions_[last_found_];
  auto after = std::ranges::upper_bound(regions_, address, {}, &DmaRegion::address);
  if (after == regions_.begin() || !holds(*std::prev(after))) return nullptr;
  last_found_ = static_cast<size_t>(std::prev(after) - regions_.begin());
  return &regions_[last_found_];
}

const DmaRegion* DmaMap::RegionAt(uint64_t address, DmaAccessMode mode) const {
  const DmaRegion* region = RegionAt(address);
  if (region == nullptr) return nullptr;
  return (mode == DmaAccessMode::kRead ? region->readable : region->writable) ? region : nullptr;
}

std::span<std::byte> DmaMap::Find(uint64_t address, uint64_t max_bytes, DmaAccessMode mode) const {
  const DmaRegion* region = RegionAt(address, mode);
  if (region == nullptr || !region->mapping) return {};
  const uint64_t offset = address - region->address;
  return region->mapping->bytes().subspan(offset, std::min(max_bytes, region->size_bytes - offset));
}

std::byte* DmaMap::Translate(uint64_t address, uint64_t size_bytes, DmaAccessMode mode) const {
  std::span<std::byte> found = Find(address, size_bytes, mode);
  return !found.empty() && found.size() == size_bytes ? found.data() : nullptr;
}

uint64_t DmaMap::UnsharedBytes(uint64_t address, uint64_t max_bytes, DmaAccessMode mode) const {
  const DmaRegion* region = RegionAt(address, mode);
  if (region == nullptr || region->mapping) return 0;
  return std::min(max_bytes, region->size_bytes - (address - region->address));
}

bool DmaMap::has_unshared() const {
  return std::ranges::any_of(regions_, [](const DmaRegion& region) { return !region.mapping; });
}

bool DmaMap::intact() const {
  return std::ranges::all_of(regions_,
                             [](const DmaRegion& r) { return !r.mapping || r.mapping->intact(); });
}

}  // namespace sma::storage_target::vfio_user
