// SPDX-License-Identifier: Apache-2.0

#include "harness/vhost_user/packed_driver.h"

#include <atomic>
#include <cstring>
#include <utility>

#include "storage_target/virtio/shared_fields.h"

namespace sma::harness {

using storage_target::virtio::AvailableState;
using storage_target::virtio::LoadAcquire;
using storage_target::virtio::LoadRelaxed;
using storage_target::virtio::PackedDescriptor;
using storage_target::virtio::PackedEvent;
using storage_target::virtio::PackedRing;
using storage_target::virtio::StoreRelaxed;
using storage_target::virtio::StoreRelease;
using storage_target::virtio::UsedState;

PackedDriver::PackedDriver(GuestRam& ram, const RingOptions& options) : options_(options) {
  descriptors_ =
      ram.Allocate(PackedRing::DescriptorBytes(options.size), PackedRing::kDescriptorAlignment);
  driver_event_ = ram.Allocate(PackedRing::kEventBytes);
  device_event_ = ram.Allocate(PackedRing::kEventBytes);
  ring_ = {.size = options.size,
           .descriptors = reinterpret_cast<PackedDescriptor*>(descriptors_.bytes.data()),
           .driver_event = reinterpret_cast<uint32_t*>(driver_event_.bytes.data()),
           .device_event = reinterpret_cast<uint32_t*>(device_event_.bytes.data())};
  if (options.indirect) {
    for (uint16_t i = 0; i < options.size; ++i) {
      tables_.push_back(ram.Allocate(kTableEntries * sizeof(PackedDescriptor)));
    }
  }
  Reset();
}

void PackedDriver::Reset() {
  std::memset(descriptors_.bytes.data(), 0, descriptors_.bytes.size());
  StoreRelaxed(*ring_.driver_event, uint32_t{0});
  StoreRelaxed(*ring_.device_event, uint32_t{0});
  counts_.assign(options_.size, 0);
  free_ids_.clear();
  for (uint16_t i = options_.size; i > 0; --i) free_ids_.push_back(static_cast<uint16_t>(i - 1));
  free_count_ = options_.size;
  unpublished_ = 0;
  next_available_ = next_used_ = {};
}

std::optional<uint16_t> PackedDriver::Add(std::span<const DriverBuffer> buffers) {
  const auto needed = static_cast<uint16_t>(options_.indirect ? 1 : buffers.size());
  if (free_count_ < needed) return std::nullopt;
  const uint16_t id = free_ids_.back();
  free_ids_.pop_back();
  counts_[id] = needed;
  std::vector<PackedDescriptor> chain;
  for (const DriverBuffer& buffer : buffers) {
    const uint16_t next = &buffer == &buffers.back() ? 0 : PackedDescriptor::kNext;
    const uint16_t write = buffer.writable ? PackedDescriptor::kWrite : 0;
    chain.push_back({.address = buffer.guest_address,
                     .size_bytes = buffer.size_bytes,
                     .id = id,
                     .flags = static_cast<uint16_t>(next | write)});
  }
  if (options_.indirect) {
    std::memcpy(tables_[id].bytes.data(), chain.data(), chain.size() * sizeof(PackedDescriptor));
    chain = {{.address = tables_[id].guest_address,
              .size_bytes = static_cast<uint32_t>(chain.size() * sizeof(PackedDescriptor)),
              .id = id,
              .flags = PackedDescriptor::kIndirect}};
  }
  for (PackedDescriptor descriptor : chain) {
    PackedDescriptor& place = ring_.descriptors[next_available_.index];
    descriptor.flags |= AvailableState(next_available_.wrap);
    if (unpublished_ == 0) {
      first_index_ = next_available_.index;
      first_flags_ = std::exchange(descriptor.flags, LoadRelaxed(place.flags));
    }
    StoreRelaxed(place.address, descriptor.address);
    StoreRelaxed(place.size_bytes, descriptor.size_bytes);
    StoreRelaxed(place.id, descriptor.id);
    StoreRelaxed(place.flags, descriptor.flags);
    next_available_ = next_available_.Plus(1, options_.size);
    ++unpublished_;
  }
  free_count_ = static_cast<uint16_t>(free_count_ - needed);
  return id;
}

bool PackedDriver::Publish() {
  if (unpublished_ == 0) return false;
  StoreRelease(ring_.descriptors[first_index_].flags, first_flags_);
  const uint16_t count = std::exchange(unpublished_, 0);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const PackedEvent event = PackedEvent::FromWord(LoadRelaxed(*ring_.device_event));
  return event.WantsNotification(next_available_, count, options_.size);
}

std::optional<PackedDriver::Used> PackedDriver::PopUsed() {
  const PackedDescriptor& place = ring_.descriptors[next_used_.index];
  const uint16_t flags = LoadAcquire(place.flags);
  if ((flags & PackedDescriptor::kStateMask) != UsedState(next_used_.wrap)) return std::nullopt;
  const uint16_t id = LoadRelaxed(place.id);
  if (id >= options_.size || counts_[id] == 0) std::abort();  // the device is broken
  const uint16_t count = std::exchange(counts_[id], 0);
  next_used_ = next_used_.Plus(count, options_.size);
  free_count_ = static_cast<uint16_t>(free_count_ + count);
  free_ids_.push_back(id);
  return Used{id, (flags & PackedDescriptor::kWrite) != 0 ? LoadRelaxed(place.size_bytes) : 0};
}

void PackedDriver::EnableInterrupts() {
  PackedEvent event;
  if (options_.event_index) event = {.position = next_used_, .flags = PackedEvent::kDescriptor};
  StoreRelaxed(*ring_.driver_event, event.word());
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void PackedDriver::DisableInterrupts() {
  const PackedEvent event{.position = {}, .flags = PackedEvent::kDisable};
  StoreRelaxed(*ring_.driver_event, event.word());
}

}  // namespace sma::harness
