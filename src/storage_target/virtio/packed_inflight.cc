// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/packed_inflight.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <utility>

#include "storage_target/virtio/chain.h"
#include "storage_target/virtio/inflight.h"
#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::virtio {

// The specification's fields. Fields that change together form one word here, so that a process
// that ends at any instruction has changed both or neither.
struct PackedInflight::Header {
  uint64_t features;
  uint16_t version;
  uint16_t entry_count;
  uint32_t free_heads;  // free_head, old_free_head
  uint64_t positions;   // Positions
  uint64_t padding;
};

struct PackedInflight::Positions {
  uint16_t used_index;
  uint16_t old_used_index;
  uint8_t used_wrap;
  uint8_t old_used_wrap;
  uint16_t padding;

  static Positions Of(PackedPosition used, PackedPosition old_used) {
    return {.used_index = used.index,
            .old_used_index = old_used.index,
            .used_wrap = used.wrap,
            .old_used_wrap = old_used.wrap,
            .padding = 0};
  }
  PackedPosition used() const { return {.index = used_index, .wrap = used_wrap != 0}; }
  PackedPosition old_used() const { return {.index = old_used_index, .wrap = old_used_wrap != 0}; }
  uint64_t word() const { return std::bit_cast<uint64_t>(*this); }
};

struct PackedInflight::Entry {
  uint8_t inflight;  // this and the next five: only in the first entry of a request
  uint8_t padding;
  uint16_t next;  // of every entry
  uint16_t last;
  uint16_t count;
  uint64_t counter;
  uint16_t id;
  uint16_t flags;
  uint32_t size_bytes;
  uint64_t address;
};

namespace {

constexpr uint32_t FreeHeads(uint16_t head, uint16_t old_head) {
  return uint32_t{head} | uint32_t{old_head} << 16;
}

}  // namespace

size_t PackedInflight::RegionBytes(uint16_t queue_size) {
  static_assert(sizeof(Header) == 32 && sizeof(Entry) == 32 && sizeof(Positions) == 8);
  return InflightRegionBytes(sizeof(Header), sizeof(Entry), queue_size);
}

PackedInflight::PackedInflight(std::span<std::byte> region, const PackedRing& ring,
                               PackedPosition base, bool ignore_inflight)
    : header_(reinterpret_cast<Header*>(region.data())),
      entries_(reinterpret_cast<Entry*>(region.data() + sizeof(Header))),
      size_(ring.size),
      next_(ring.size),
      last_(ring.size),
      entry_of_(ring.size) {
  assert(region.size() >= RegionBytes(ring.size));
  batch_.reserve(size_);
  recovered_ = !ignore_inflight && Recover(ring);
  if (!recovered_) Initialise(base);
}

void PackedInflight::Initialise(PackedPosition base) {
  StoreRelease(header_->version, uint16_t{0});
  std::memset(entries_, 0, sizeof(Entry) * size_);
  for (uint16_t i = 0; i < size_; ++i) {
    next_[i] = static_cast<uint16_t>(i + 1);
    StoreRelaxed(entries_[i].next, next_[i]);
  }
  next_used_ = base;
  next_counter_ = 0;
  free_head_ = 0;
  outstanding_.clear();
  StoreRelaxed(header_->features, uint64_t{0});
  StoreRelaxed(header_->entry_count, size_);
  StoreRelaxed(header_->free_heads, FreeHeads(0, 0));
  StoreRelaxed(header_->positions, Positions::Of(base, base).word());
  StoreRelease(header_->version, kInflightVersion);
}

// Returns false if the region is inconsistent.
bool PackedInflight::Recover(const PackedRing& ring) {
  if (LoadRelaxed(header_->version) != kInflightVersion ||
      LoadRelaxed(header_->entry_count) != size_) {
    return false;
  }
  const auto positions = std::bit_cast<Positions>(LoadRelaxed(header_->positions));
  const uint32_t free_heads = LoadRelaxed(header_->free_heads);
  if (positions.used_index >= size_ || positions.old_used_index >= size_) return false;
  next_used_ = positions.old_used();
  free_head_ = static_cast<uint16_t>(free_heads >> 16);
  if (positions.used() != positions.old_used()) {
    // The previous process ended during a publication. The driver has seen it, and may have
    // continued since then, if the first descriptor of the publication no longer has its available
    // state.
    const uint16_t flags = LoadAcquire(ring.descriptors[positions.old_used_index].flags);
    if ((flags & PackedDescriptor::kStateMask) != AvailableState(next_used_.wrap)) {
      next_used_ = positions.used();
      free_head_ = static_cast<uint16_t>(free_heads);
    }
  }
  std::vector<bool> seen(size_);
  if (!FindState(seen)) return false;
  StoreRelaxed(header_->free_heads, FreeHeads(free_head_, free_head_));
  StoreRelease(header_->positions, Positions::Of(next_used_, next_used_).word());
  return true;
}

// Reads the list of free entries and the requests; returns false unless each entry belongs to
// exactly one of them.
bool PackedInflight::FindState(std::vector<bool>& seen) {
  for (uint16_t i = 0; i < size_; ++i) next_[i] = LoadRelaxed(entries_[i].next);
  for (uint16_t i = free_head_; i < size_; i = next_[i]) {
    if (seen[i]) return false;
    seen[i] = true;
    StoreRelaxed(entries_[i].inflight, uint8_t{0});
  }
  std::vector<bool> ids(size_);
  for (uint16_t i = 0; i < size_; ++i) {
    if (seen[i] || LoadRelaxed(entries_[i].inflight) == 0) continue;
    if (!FindRequest(i, seen)) return false;
    const uint16_t id = outstanding_.back().id;
    if (id >= size_ || ids[id]) return false;
    ids[id] = true;
    entry_of_[id] = i;
    next_counter_ = std::max(next_counter_, outstanding_.back().counter + 1);
  }
  std::ranges::sort(outstanding_, {}, &Request::counter);
  return std::ranges::count(seen, true) == size_;
}

bool PackedInflight::FindRequest(uint16_t head, std::vector<bool>& seen) {
  const uint16_t count = LoadRelaxed(entries_[head].count);
  if (count == 0 || count > Chain::kMaxDescriptors) return false;
  Request request{.counter = LoadRelaxed(entries_[head].counter)};
  uint16_t entry = head;
  for (uint16_t i = 0; i < count; ++i) {
    if (i > 0) entry = next_[entry];
    if (entry >= size_ || seen[entry]) return false;
    seen[entry] = true;
    const Entry noted = Fetch<Entry>(&entries_[entry]);
    request.descriptors.push_back({.address = noted.address,
                                   .size_bytes = noted.size_bytes,
                                   .id = noted.id,
                                   .flags = noted.flags});
  }
  request.id = request.descriptors.back().id;
  last_[head] = entry;
  outstanding_.push_back(std::move(request));
  return true;
}

// A release store keeps earlier stores before it, because the process may end at any instruction.
// The entries count as free until the head of the free list is moved.
void PackedInflight::Take(uint16_t id, std::span<const PackedDescriptor> descriptors) {
  const uint16_t head = free_head_;
  uint16_t entry = head;
  for (const PackedDescriptor& descriptor : descriptors) {
    assert(free_head_ < size_);
    entry = free_head_;
    free_head_ = next_[entry];
    StoreRelaxed(entries_[entry].address, descriptor.address);
    StoreRelaxed(entries_[entry].size_bytes, descriptor.size_bytes);
    StoreRelaxed(entries_[entry].id, descriptor.id);
    StoreRelaxed(entries_[entry].flags, descriptor.flags);
  }
  entry_of_[id] = head;
  last_[head] = entry;
  StoreRelaxed(entries_[head].last, entry);
  StoreRelaxed(entries_[head].count, static_cast<uint16_t>(descriptors.size()));
  StoreRelaxed(entries_[head].counter, next_counter_++);
  StoreRelaxed(entries_[head].inflight, uint8_t{1});
  StoreRelease(header_->free_heads, FreeHeads(free_head_, free_head_));
}

// Until the word with the positions is written, the next process uses the old head of the free
// list.
void PackedInflight::BeginPublication(PackedPosition next_used) {
  const uint16_t old_free_head = free_head_;
  for (uint16_t head : batch_) {
    next_[last_[head]] = free_head_;
    StoreRelaxed(entries_[last_[head]].next, free_head_);
    free_head_ = head;
  }
  StoreRelease(header_->free_heads, FreeHeads(free_head_, old_free_head));
  StoreRelease(header_->positions, Positions::Of(next_used, next_used_).word());
  next_used_ = next_used;
}

void PackedInflight::CommitCompletions() {
  for (uint16_t head : batch_) StoreRelaxed(entries_[head].inflight, uint8_t{0});
  batch_.clear();
  StoreRelease(header_->free_heads, FreeHeads(free_head_, free_head_));
  StoreRelease(header_->positions, Positions::Of(next_used_, next_used_).word());
}

}  // namespace sma::storage_target::virtio
