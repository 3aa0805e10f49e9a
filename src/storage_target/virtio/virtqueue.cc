// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/virtqueue.h"

#include <vector>

#include "storage_target/virtio/guest_memory.h"

namespace sma::storage_target::virtio {

Virtqueue::Virtqueue(const Options& options) : options_(options) {
  if (const auto* packed = std::get_if<PackedQueue::Options>(&options_.ring)) {
    packed_.emplace(*packed);
  } else {
    split_.emplace(std::get<SplitQueue::Options>(options_.ring));
  }
}

void Virtqueue::Resume(const std::function<void(uint16_t number)>& again) {
  if (!options_.inflight) return;
  const std::span<std::byte> region =
      options_.inflight->bytes().subspan(options_.inflight_offset_bytes);
  if (packed_) {
    ResumePacked(region, again);
  } else {
    ResumeSplit(region, again);
  }
}

void Virtqueue::ResumeSplit(std::span<std::byte> region,
                            const std::function<void(uint16_t)>& again) {
  split_inflight_.emplace(region, split_->size(), split_->used_index());
  const std::vector<uint16_t> heads = split_inflight_->Outstanding();
  split_->set_next_available(static_cast<uint16_t>(split_->used_index() + heads.size()));
  for (uint16_t head : heads) again(head);
}

void Virtqueue::ResumePacked(std::span<std::byte> region,
                             const std::function<void(uint16_t)>& again) {
  const auto& options = std::get<PackedQueue::Options>(options_.ring);
  packed_inflight_.emplace(region, options.ring, options.next_used, options_.ignore_inflight);
  if (!packed_inflight_->recovered()) return;
  packed_->BeginAt(packed_inflight_->next_used());
  const std::vector<PackedInflight::Request> requests = packed_inflight_->TakeOutstanding();
  for (const auto& request : requests) packed_->Restore(request.id, request.descriptors);
  for (const auto& request : requests) {
    packed_->Retake(request.descriptors);
    again(request.id);
  }
}

bool Virtqueue::HasAvailable() const {
  return packed_ ? packed_->HasAvailable() : split_->AvailableCount() != 0;
}

std::optional<Virtqueue::Taken> Virtqueue::Take() { return packed_ ? TakePacked() : TakeSplit(); }

std::optional<Virtqueue::Taken> Virtqueue::TakeSplit() {
  const std::optional<uint16_t> count = split_->AvailableCount();
  if (count == 0) return std::nullopt;
  if (!count) return Taken{.error = ChainError::kTooManyAvailable};
  const uint16_t head = split_->TakeHead();
  if (head >= split_->size()) return Taken{.error = ChainError::kBadHead};
  if (split_inflight_) split_inflight_->Take(head);
  return Taken{.number = head};
}

std::optional<Virtqueue::Taken> Virtqueue::TakePacked() {
  if (!packed_->HasAvailable()) return std::nullopt;
  Taken taken;
  taken.error = packed_->TakeChain(taken.number);
  if (taken.error == ChainError::kNone && packed_inflight_) {
    packed_inflight_->Take(taken.number, packed_->taken());
  }
  return taken;
}

ChainError Virtqueue::ReadChain(uint16_t number, const GuestMemory& memory, Chain& chain) const {
  return packed_ ? packed_->ReadChain(memory, chain) : split_->ReadChain(number, memory, chain);
}

void Virtqueue::PushUsed(uint16_t number, uint32_t written_bytes) {
  if (packed_) {
    if (packed_inflight_) packed_inflight_->PrepareCompletion(number);
    packed_->PushUsed(number, written_bytes);
  } else {
    if (split_inflight_) split_inflight_->PrepareCompletion(number);
    split_->PushUsed(number, written_bytes);
  }
}

bool Virtqueue::PublishUsed() {
  if (packed_) {
    if (packed_inflight_) packed_inflight_->BeginPublication(packed_->next_used());
    const bool notify = packed_->PublishUsed();
    if (packed_inflight_) packed_inflight_->CommitCompletions();
    return notify;
  }
  const bool notify = split_->PublishUsed();
  if (split_inflight_) split_inflight_->CommitCompletions(split_->used_index());
  return notify;
}

void Virtqueue::EnableNotifications() {
  if (packed_) {
    packed_->EnableNotifications();
  } else {
    split_->EnableNotifications();
  }
}

void Virtqueue::DisableNotifications() {
  if (packed_) {
    packed_->DisableNotifications();
  } else {
    split_->DisableNotifications();
  }
}

uint32_t Virtqueue::base() const {
  if (!packed_) return split_->next_available();
  return uint32_t{packed_->next_available().bits()} | uint32_t{packed_->next_used().bits()} << 16;
}

}  // namespace sma::storage_target::virtio
