// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/inflight.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::virtio {

// vhost-user "QueueRegionSplit" and "DescStateSplit".
struct InflightQueue::Header {
  uint64_t features;
  uint16_t version;
  uint16_t entry_count;
  uint16_t last_batch_head;
  uint16_t used_index;
};

struct InflightQueue::Entry {
  uint8_t inflight;
  uint8_t padding[5];
  uint16_t next;
  uint64_t counter;
};

size_t InflightQueue::RegionBytes(uint16_t queue_size) {
  static_assert(sizeof(Header) == 16 && sizeof(Entry) == 16);
  return InflightRegionBytes(sizeof(Header), sizeof(Entry), queue_size);
}

InflightQueue::InflightQueue(std::span<std::byte> region, uint16_t queue_size, uint16_t used_index)
    : header_(reinterpret_cast<Header*>(region.data())),
      entries_(reinterpret_cast<Entry*>(region.data() + sizeof(Header))),
      queue_size_(queue_size) {
  assert(region.size() >= RegionBytes(queue_size));
  batch_.reserve(queue_size);
  if (!IsUsable()) {
    Initialise(used_index);
    return;
  }
  FinishLastBatch(used_index);
  for (uint16_t i = 0; i < queue_size_; ++i) {
    next_counter_ = std::max(next_counter_, LoadRelaxed(entries_[i].counter) + 1);
  }
}

bool InflightQueue::IsUsable() const {
  return LoadRelaxed(header_->version) == kInflightVersion &&
         LoadRelaxed(header_->entry_count) >= queue_size_;
}

void InflightQueue::Initialise(uint16_t used_index) {
  std::memset(entries_, 0, sizeof(Entry) * queue_size_);
  StoreRelaxed(header_->features, uint64_t{0});
  StoreRelaxed(header_->entry_count, queue_size_);
  StoreRelaxed(header_->last_batch_head, uint16_t{0});
  StoreRelaxed(header_->used_index, used_index);
  StoreRelease(header_->version, kInflightVersion);
}

// Completes the last batch of the previous process, which had published the batch but may not have
// marked all of it as completed.
void InflightQueue::FinishLastBatch(uint16_t used_index) {
  auto left = static_cast<uint16_t>(used_index - LoadRelaxed(header_->used_index));
  uint16_t head = LoadRelaxed(header_->last_batch_head);
  for (; left > 0 && left <= queue_size_ && head < queue_size_; --left) {
    StoreRelaxed(entries_[head].inflight, uint8_t{0});
    head = LoadRelaxed(entries_[head].next);
  }
  StoreRelaxed(header_->used_index, used_index);
}

std::vector<uint16_t> InflightQueue::Outstanding() const {
  struct Taken {
    uint64_t counter;
    uint16_t head;
  };
  std::vector<Taken> taken;
  for (uint16_t i = 0; i < queue_size_; ++i) {
    if (LoadRelaxed(entries_[i].inflight) != 0) {
      taken.push_back({LoadRelaxed(entries_[i].counter), i});
    }
  }
  std::ranges::sort(taken, {}, &Taken::counter);
  std::vector<uint16_t> heads;
  std::ranges::transform(taken, std::back_inserter(heads), &Taken::head);
  return heads;
}

// A release store keeps earlier stores before it, because the process may end at any instruction.
void InflightQueue::Take(uint16_t head) {
  StoreRelaxed(entries_[head].counter, next_counter_++);
  StoreRelease(entries_[head].inflight, uint8_t{1});
}

void InflightQueue::PrepareCompletion(uint16_t head) {
  StoreRelaxed(entries_[head].next, LoadRelaxed(header_->last_batch_head));
  StoreRelease(header_->last_batch_head, head);
  batch_.push_back(head);
}

void InflightQueue::CommitCompletions(uint16_t used_index) {
  for (uint16_t head : batch_) StoreRelease(entries_[head].inflight, uint8_t{0});
  StoreRelease(header_->used_index, used_index);
  batch_.clear();
}

}  // namespace sma::storage_target::virtio
