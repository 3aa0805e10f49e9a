#include "target/nvmf/vfio_user/completion_queue.h"

#include <cstring>

#include "target/virtio/shared_fields.h"

namespace sma::target::nvmf::vfio_user {

// The phase tag is in the last dword, which the host reads first.
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
  ++unannounced;
}

void CompletionQueue::Wait(MemoryRequest& request) {
  request.next_waiting = nullptr;
  *waiting_tail_ = &request;
  waiting_tail_ = &request.next_waiting;
}

MemoryRequest* CompletionQueue::TakeWaiting() {
  MemoryRequest* request = waiting_head_;
  waiting_head_ = request->next_waiting;
  if (waiting_head_ == nullptr) waiting_tail_ = &waiting_head_;
  return request;
}

void CompletionQueue::ForgetWaiting(const QueuePair& queue_pair) {
  MemoryRequest** at = &waiting_head_;
  while (*at != nullptr) {
    if ((*at)->queue_pair == &queue_pair) {
      *at = (*at)->next_waiting;
    } else {
      at = &(*at)->next_waiting;
    }
  }
  waiting_tail_ = at;
}

}  // namespace sma::target::nvmf::vfio_user
