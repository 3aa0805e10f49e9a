// SPDX-License-Identifier: Apache-2.0

#include "harness/vhost_user/split_driver.h"

#include <array>
#include <atomic>
#include <cstring>

#include "storage_target/virtio/shared_fields.h"

namespace sma::harness {

using storage_target::virtio::Descriptor;
using storage_target::virtio::LoadAcquire;
using storage_target::virtio::LoadRelaxed;
using storage_target::virtio::SplitRing;
using storage_target::virtio::StoreRelaxed;
using storage_target::virtio::StoreRelease;

SplitDriver::SplitDriver(GuestRam& ram, const Options& options) : options_(options) {
  descriptors_ =
      ram.Allocate(SplitRing::DescriptorBytes(options.size), SplitRing::kDescriptorAlignment);
  available_ = ram.Allocate(SplitRing::AvailableBytes(options.size));
  used_ = ram.Allocate(SplitRing::UsedBytes(options.size));
  ring_ = {.size = options.size,
           .descriptors = reinterpret_cast<Descriptor*>(descriptors_.bytes.data()),
           .available = reinterpret_cast<uint16_t*>(available_.bytes.data()),
           .used = reinterpret_cast<uint16_t*>(used_.bytes.data())};
  if (options.indirect) {
    for (uint16_t i = 0; i < options.size; ++i) {
      tables_.push_back(ram.Allocate(kTableEntries * sizeof(Descriptor)));
    }
  }
  Reset();
}

void SplitDriver::Reset() {
  std::memset(available_.bytes.data(), 0, available_.bytes.size());
  std::memset(used_.bytes.data(), 0, used_.bytes.size());
  chains_.assign(options_.size, {});
  for (auto& chain : chains_) chain.reserve(options_.size);
  free_.clear();
  for (uint16_t i = options_.size; i > 0; --i) free_.push_back(static_cast<uint16_t>(i - 1));
  next_available_ = published_ = next_used_ = 0;
}

void SplitDriver::WriteChain(Descriptor* table, std::span<const DriverBuffer> buffers,
                             const uint16_t* indexes) {
  for (size_t i = 0; i < buffers.size(); ++i) {
    const bool last = i + 1 == buffers.size();
    uint16_t flags = buffers[i].writable ? Descriptor::kWrite : 0;
    if (!last) flags |= Descriptor::kNext;
    table[indexes[i]] = {.address = buffers[i].guest_address,
                         .size_bytes = buffers[i].size_bytes,
                         .flags = flags,
                         .next = last ? uint16_t{0} : indexes[i + 1]};
  }
}

std::optional<uint16_t> SplitDriver::Add(std::span<const DriverBuffer> buffers) {
  const size_t needed = options_.indirect ? 1 : buffers.size();
  if (free_.size() < needed) return std::nullopt;
  const uint16_t head = free_.back();
  std::vector<uint16_t>& chain = chains_[head];
  for (size_t i = 0; i < needed; ++i) {
    chain.push_back(free_.back());
    free_.pop_back();
  }
  if (options_.indirect) {
    std::array<uint16_t, kTableEntries> indexes;
    for (uint16_t i = 0; i < kTableEntries; ++i) indexes[i] = i;
    WriteChain(reinterpret_cast<Descriptor*>(tables_[head].bytes.data()), buffers, indexes.data());
    ring_.descriptors[head] = {
        .address = tables_[head].guest_address,
        .size_bytes = static_cast<uint32_t>(buffers.size() * sizeof(Descriptor)),
        .flags = Descriptor::kIndirect,
        .next = 0};
  } else {
    WriteChain(ring_.descriptors, buffers, chain.data());
  }
  StoreRelaxed(ring_.available_head(next_available_++ & (options_.size - 1)), head);
  return head;
}

bool SplitDriver::Publish() {
  const uint16_t before = published_;
  published_ = next_available_;
  StoreRelease(ring_.available_index(), published_);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!options_.event_index) {
    return (LoadRelaxed(ring_.used_flags()) & storage_target::virtio::kUsedNoNotify) == 0;
  }
  const uint16_t event = LoadRelaxed(ring_.available_event());
  return static_cast<uint16_t>(published_ - event - 1) < static_cast<uint16_t>(published_ - before);
}

std::optional<SplitDriver::Used> SplitDriver::PopUsed() {
  if (LoadAcquire(ring_.used_index()) == next_used_) return std::nullopt;
  const auto& element = ring_.used_element(next_used_++ & (options_.size - 1));
  const auto head = static_cast<uint16_t>(LoadRelaxed(element.id) & (options_.size - 1));
  std::vector<uint16_t>& chain = chains_[head];
  while (!chain.empty()) {
    free_.push_back(chain.back());
    chain.pop_back();
  }
  return Used{head, LoadRelaxed(element.written_bytes)};
}

void SplitDriver::EnableInterrupts() {
  if (options_.event_index) {
    StoreRelaxed(ring_.used_event(), next_used_);
  } else {
    StoreRelaxed(ring_.available_flags(), uint16_t{0});
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void SplitDriver::DisableInterrupts() {
  if (options_.event_index) {
    StoreRelaxed(ring_.used_event(), static_cast<uint16_t>(next_used_ - 1));
  } else {
    StoreRelaxed(ring_.available_flags(), storage_target::virtio::kAvailableNoInterrupt);
  }
}

}  // namespace sma::harness
