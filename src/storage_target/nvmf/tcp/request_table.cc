// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/request_table.h"

#include <new>
#include <type_traits>
#include <utility>

namespace sma::storage_target::nvmf::tcp {

static_assert(std::is_trivially_destructible_v<TcpRequest>);

void RequestTable::Initialize(TcpRequest& request, uint32_t index, std::byte* slot) const {
  request.index = static_cast<uint16_t>(index);
  request.queue_pair = &owner_;
  request.slot = slot;
  request.out.request = &request;
}

void RequestTable::AddFirst(std::byte* slot) {
  Initialize(first_, 0, slot);
  size_ = count_ = 1;
  Free(first_);
}

bool RequestTable::Grow(uint32_t size, MappedMemory slots, size_t slot_bytes) {
  if (size <= size_) return true;
  MappedMemory more(size_t{size - 1} * sizeof(TcpRequest));
  if (!slots.valid() || !more.valid()) return false;
  more_ = std::move(more);
  slots_ = std::move(slots);
  slot_bytes_ = slot_bytes;
  size_ = size;
  return true;
}

TcpRequest& RequestTable::Construct(uint32_t index) {
  auto* request = new (more() + (index - 1)) TcpRequest;
  Initialize(*request, index, slots_.data() + slot_bytes_ * (index - 1));
  return *request;
}

void RequestTable::Trim() {
  while (count_ > 1 && At(count_ - 1).state == TcpRequest::State::kFree) --count_;
  free_ = nullptr;
  for (uint32_t i = count_; i > 0; --i) {
    if (At(i - 1).state == TcpRequest::State::kFree) Free(At(i - 1));
  }
  if (!more_.valid()) return;
  more_.ReleaseFrom(size_t{count_ - 1} * sizeof(TcpRequest));
  slots_.Release();
}

}  // namespace sma::storage_target::nvmf::tcp
