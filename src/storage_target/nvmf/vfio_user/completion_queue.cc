// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/vfio_user/completion_queue.h"

#include <cstring>

#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::nvmf::vfio_user {

// The phase tag is in the last dword, which the host reads first, so it is stored last.
void CompletionQueue::Post(const nvme::Completion& completion) {
  constexpr size_t kLastDword = 12;
  std::byte* entry = ring_ + size_t{tail_} * sizeof(nvme::Completion);
  nvme::Completion tagged = completion;
  tagged.status = static_cast<uint16_t>(tagged.status | phase_);
  uint32_t last;
  std::memcpy(&last, reinterpret_cast<const std::byte*>(&tagged) + kLastDword, sizeof last);
  std::memcpy(entry, &tagged, kLastDword);
  virtio::StoreRelease(*reinterpret_cast<uint32_t*>(entry + kLastDword), last);
  tail_ = Next(tail_);
  if (tail_ == 0) phase_ ^= 1;
  ++unsignalled;
}

void CompletionQueue::DropWaiting(const QueuePair& queue_pair) {
  for (MemoryRequest* request = waiting_.first(); request != nullptr;) {
    MemoryRequest* const next = waiting_.After(*request);
    if (request->queue_pair == &queue_pair) waiting_.Remove(*request);
    request = next;
  }
}

}  // namespace sma::storage_target::nvmf::vfio_user
