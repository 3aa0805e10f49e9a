// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/packed_queue.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <utility>

#include "storage_target/virtio/guest_memory.h"
#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::virtio {
namespace {

bool IsAvailable(uint16_t flags, bool wrap) {
  return (flags & PackedDescriptor::kStateMask) == AvailableState(wrap);
}

}  // namespace

PackedQueue::PackedQueue(const Options& options)
    : options_(options),
      next_available_(options.next_available),
      next_used_(options.next_used),
      published_(options.next_used),
      counts_(options.ring.size) {
  assert(options.ring.size > 0 && options.ring.size <= PackedRing::kMaxSize);
  assert(next_available_.index < size() && next_used_.index < size());
}

bool PackedQueue::HasAvailable() const {
  const uint16_t flags = LoadAcquire(options_.ring.descriptors[next_available_.index].flags);
  return IsAvailable(flags, next_available_.wrap);
}

ChainError PackedQueue::TakeChain(uint16_t& id) {
  taken_count_ = 0;
  PackedPosition at = next_available_;
  bool last = false;
  while (!last) {
    if (taken_count_ == Chain::kMaxDescriptors) return ChainError::kTooLong;
    if (in_flight_ + taken_count_ == size()) return ChainError::kTooManyAvailable;
    const auto descriptor = Fetch<PackedDescriptor>(&options_.ring.descriptors[at.index]);
    if (!IsAvailable(descriptor.flags, at.wrap)) return ChainError::kIncomplete;
    taken_[taken_count_++] = descriptor;
    at = at.Plus(1, size());
    last = (descriptor.flags & PackedDescriptor::kNext) == 0;
  }
  id = taken_[taken_count_ - 1].id;
  if (id >= size()) return ChainError::kBadHead;
  if (counts_[id] != 0) return ChainError::kHeadInUse;
  counts_[id] = taken_count_;
  in_flight_ = static_cast<uint16_t>(in_flight_ + taken_count_);
  next_available_ = at;
  return ChainError::kNone;
}

ChainError PackedQueue::ReadChain(const GuestMemory& memory, Chain& chain) const {
  chain.Clear();
  for (const PackedDescriptor& descriptor : taken()) {
    if (descriptor.flags & PackedDescriptor::kIndirect) {
      return ReadIndirect(descriptor, memory, chain);
    }
    ChainError error = chain.Append(memory, descriptor.address, descriptor.size_bytes,
                                    (descriptor.flags & PackedDescriptor::kWrite) != 0);
    if (error != ChainError::kNone) return error;
  }
  return ChainError::kNone;
}

// The descriptors of an indirect table are contiguous and not linked (Virtio 1.2 §2.8.7).
ChainError PackedQueue::ReadIndirect(const PackedDescriptor& table, const GuestMemory& memory,
                                     Chain& chain) const {
  if (!options_.indirect || (table.flags & PackedDescriptor::kNext) || table.size_bytes == 0 ||
      table.size_bytes % sizeof(PackedDescriptor) != 0) {
    return ChainError::kBadIndirect;
  }
  const uint32_t count = table.size_bytes / sizeof(PackedDescriptor);
  const std::byte* entries = memory.Translate(table.address, table.size_bytes);
  if (entries == nullptr) return ChainError::kBadAddress;
  if (count > Chain::kMaxDescriptors) return ChainError::kTooLong;
  for (uint32_t i = 0; i < count; ++i) {
    const auto descriptor = Fetch<PackedDescriptor>(entries + i * sizeof(PackedDescriptor));
    if (descriptor.flags & PackedDescriptor::kIndirect) return ChainError::kBadIndirect;
    ChainError error = chain.Append(memory, descriptor.address, descriptor.size_bytes,
                                    (descriptor.flags & PackedDescriptor::kWrite) != 0);
    if (error != ChainError::kNone) return error;
  }
  return ChainError::kNone;
}

// The previous process may have marked some of these descriptors as used for completions that it
// did not publish. This process writes its used descriptors elsewhere, so the marks must be removed
// before the driver reaches them.
void PackedQueue::Restore(uint16_t id, std::span<const PackedDescriptor> descriptors) {
  assert(id < size() && counts_[id] == 0 && in_flight_ + descriptors.size() <= size());
  for (size_t i = 0; i < descriptors.size(); ++i) {
    StoreRelaxed(options_.ring.descriptors[next_available_.index].flags,
                 AvailableState(next_available_.wrap));
    next_available_ = next_available_.Plus(1, size());
  }
  counts_[id] = static_cast<uint16_t>(descriptors.size());
  in_flight_ = static_cast<uint16_t>(in_flight_ + descriptors.size());
}

void PackedQueue::Retake(std::span<const PackedDescriptor> descriptors) {
  assert(descriptors.size() <= taken_.size());
  std::ranges::copy(descriptors, taken_.begin());
  taken_count_ = static_cast<uint16_t>(descriptors.size());
}

// The first descriptor of a batch is marked last, in PublishUsed: until then the driver sees none
// of them.
void PackedQueue::PushUsed(uint16_t id, uint32_t written_bytes) {
  PackedDescriptor& descriptor = options_.ring.descriptors[next_used_.index];
  StoreRelaxed(descriptor.id, id);
  StoreRelaxed(descriptor.size_bytes, written_bytes);
  const auto flags = static_cast<uint16_t>(UsedState(next_used_.wrap) |
                                           (written_bytes > 0 ? PackedDescriptor::kWrite : 0));
  if (pushed_ == 0) {
    first_flags_ = flags;
  } else {
    StoreRelaxed(descriptor.flags, flags);
  }
  const uint16_t count = std::exchange(counts_[id], 0);
  pushed_ = static_cast<uint16_t>(pushed_ + count);
  next_used_ = next_used_.Plus(count, size());
}

// The driver writes its event suppression structure and then reads the ring; the device writes the
// ring and then reads the structure. This requires the fence.
bool PackedQueue::PublishUsed() {
  if (pushed_ == 0) return false;
  StoreRelease(options_.ring.descriptors[published_.index].flags, first_flags_);
  published_ = next_used_;
  in_flight_ = static_cast<uint16_t>(in_flight_ - pushed_);
  const uint16_t count = std::exchange(pushed_, 0);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  PackedEvent event = PackedEvent::FromWord(LoadRelaxed(*options_.ring.driver_event));
  if (!options_.event_index && event.flags == PackedEvent::kDescriptor) return true;
  return event.WantsNotification(published_, count, size());
}

void PackedQueue::EnableNotifications() {
  PackedEvent event;
  if (options_.event_index) {
    event = {.position = next_available_, .flags = PackedEvent::kDescriptor};
  }
  StoreRelaxed(*options_.ring.device_event, event.word());
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void PackedQueue::DisableNotifications() {
  const PackedEvent event{.position = {}, .flags = PackedEvent::kDisable};
  StoreRelaxed(*options_.ring.device_event, event.word());
}

}  // namespace sma::storage_target::virtio
