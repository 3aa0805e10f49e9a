#pragma once

#include <cstdint>

#include "target/nvme/command.h"
#include "target/nvmf/vfio_user/memory_request.h"

namespace sma::target::nvmf::vfio_user {

/// A completion queue in the host's memory (NVMe Base 2.0 §3.3.1). One thread's.
class CompletionQueue {
 public:
  struct Options {
    uint16_t id = 0;
    uint32_t size = 0;  // entries, 2 or more
    uint64_t address = 0;
    uint16_t vector = 0;
    bool interrupts = false;
  };

  explicit CompletionQueue(const Options& options) : options_(options) {}

  const Options& options() const { return options_; }
  uint64_t size_bytes() const { return uint64_t{options_.size} * sizeof(nvme::Completion); }
  /// Where it is in this process; null while the memory is not mapped.
  void SetRing(std::byte* ring) { ring_ = ring; }

  /// False: the host has written what is no entry of the queue.
  bool SetHead(uint32_t head) {
    if (head >= options_.size) return false;
    head_ = head;
    return true;
  }
  uint32_t head() const { return head_; }
  /// Entries that the host has not taken yet, as far as is known.
  bool empty() const { return head_ == tail_; }
  /// Whether Post has room.
  bool CanPost() const { return ring_ != nullptr && Next(tail_) != head_; }
  void Post(const nvme::Completion& completion);

  /// Completions that found no room wait in the order they came.
  void Wait(MemoryRequest& request);
  MemoryRequest* waiting() const { return waiting_head_; }
  MemoryRequest* TakeWaiting();
  /// Forgets those of a queue pair.
  void ForgetWaiting(const QueuePair& queue_pair);

  uint32_t submission_queue_count = 0;
  uint32_t unannounced = 0;  // posted since the last interrupt
  uint64_t first_unannounced_ns = 0;

 private:
  uint32_t Next(uint32_t index) const { return index + 1 == options_.size ? 0 : index + 1; }

  const Options options_;
  std::byte* ring_ = nullptr;
  uint32_t head_ = 0;
  uint32_t tail_ = 0;
  uint16_t phase_ = 1;
  MemoryRequest* waiting_head_ = nullptr;
  MemoryRequest** waiting_tail_ = &waiting_head_;
};

}  // namespace sma::target::nvmf::vfio_user
