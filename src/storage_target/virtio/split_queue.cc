// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/split_queue.h"

#include <atomic>
#include <bit>
#include <cassert>

#include "storage_target/virtio/guest_memory.h"
#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::virtio {
namespace {

// Walks the chain that begins at `first` in a table of `table_size` descriptors to its end, or to a
// descriptor that refers to an indirect table, which is stored in `indirect`.
ChainError WalkTable(const std::byte* table, uint32_t table_size, uint32_t first,
                     const GuestMemory& memory, Chain& chain, std::optional<Descriptor>& indirect) {
  uint32_t count = 0;
  for (uint32_t index = first;;) {
    if (index >= table_size) return ChainError::kBadIndex;
    if (++count > table_size || count > Chain::kMaxDescriptors) return ChainError::kTooLong;
    const auto descriptor = Fetch<Descriptor>(table + index * sizeof(Descriptor));
    if (descriptor.flags & Descriptor::kIndirect) {
      indirect = descriptor;
      return ChainError::kNone;
    }
    ChainError error = chain.Append(memory, descriptor.address, descriptor.size_bytes,
                                    (descriptor.flags & Descriptor::kWrite) != 0);
    if (error != ChainError::kNone) return error;
    if (!(descriptor.flags & Descriptor::kNext)) return ChainError::kNone;
    index = descriptor.next;
  }
}

}  // namespace

SplitQueue::SplitQueue(const Options& options)
    : options_(options),
      mask_(static_cast<uint16_t>(options.ring.size - 1)),
      next_available_(options.next_available),
      next_used_(LoadRelaxed(options.ring.used_index())),
      published_used_(next_used_) {
  assert(std::has_single_bit(options.ring.size));
}

std::optional<uint16_t> SplitQueue::AvailableCount() const {
  const uint16_t index = LoadAcquire(options_.ring.available_index());
  const auto count = static_cast<uint16_t>(index - next_available_);
  if (count > options_.ring.size) return std::nullopt;
  return count;
}

uint16_t SplitQueue::TakeHead() {
  return LoadRelaxed(options_.ring.available_head(next_available_++ & mask_));
}

ChainError SplitQueue::ReadChain(uint16_t head, const GuestMemory& memory, Chain& chain) const {
  chain.Clear();
  std::optional<Descriptor> indirect;
  ChainError error = WalkTable(reinterpret_cast<const std::byte*>(options_.ring.descriptors),
                               options_.ring.size, head, memory, chain, indirect);
  if (error != ChainError::kNone || !indirect) return error;
  return ReadIndirect(*indirect, memory, chain);
}

ChainError SplitQueue::ReadIndirect(const Descriptor& table, const GuestMemory& memory,
                                    Chain& chain) const {
  if (!options_.indirect || (table.flags & Descriptor::kNext) || table.size_bytes == 0 ||
      table.size_bytes % sizeof(Descriptor) != 0) {
    return ChainError::kBadIndirect;
  }
  const std::byte* entries = memory.Translate(table.address, table.size_bytes);
  if (entries == nullptr) return ChainError::kBadAddress;
  std::optional<Descriptor> nested;
  ChainError error =
      WalkTable(entries, table.size_bytes / sizeof(Descriptor), 0, memory, chain, nested);
  return nested ? ChainError::kBadIndirect : error;
}

void SplitQueue::PushUsed(uint16_t head, uint32_t written_bytes) {
  UsedElement& element = options_.ring.used_element(next_used_++ & mask_);
  StoreRelaxed(element.id, uint32_t{head});
  StoreRelaxed(element.written_bytes, written_bytes);
}

// The driver writes used_event and then reads the index; the device writes the index and then reads
// used_event. This requires the fence (Virtio 1.2 §2.7.7).
bool SplitQueue::PublishUsed() {
  const uint16_t before = published_used_;
  published_used_ = next_used_;
  StoreRelease(options_.ring.used_index(), published_used_);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!options_.event_index) {
    return (LoadRelaxed(options_.ring.available_flags()) & kAvailableNoInterrupt) == 0;
  }
  const uint16_t event = LoadRelaxed(options_.ring.used_event());
  return static_cast<uint16_t>(published_used_ - event - 1) <
         static_cast<uint16_t>(published_used_ - before);
}

void SplitQueue::EnableNotifications() {
  if (options_.event_index) {
    StoreRelaxed(options_.ring.available_event(), next_available_);
  } else {
    StoreRelaxed(options_.ring.used_flags(), uint16_t{0});
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

// With VIRTIO_F_EVENT_IDX there is nothing to do: the driver has already passed avail_event.
void SplitQueue::DisableNotifications() {
  if (!options_.event_index) StoreRelaxed(options_.ring.used_flags(), kUsedNoNotify);
}

}  // namespace sma::storage_target::virtio
