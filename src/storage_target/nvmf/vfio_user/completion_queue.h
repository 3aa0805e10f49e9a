// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "base/intrusive_list.h"
#include "storage_target/nvme/command.h"
#include "storage_target/nvmf/vfio_user/memory_request.h"

namespace sma::storage_target::nvmf::vfio_user {

/// A completion queue in the host's memory (NVMe Base 2.0 §3.3.1). Not thread-safe.
class CompletionQueue {
 public:
  struct Options {
    uint16_t id = 0;
    uint32_t size = 0;  // entries, at least 2
    uint64_t address = 0;
    uint16_t vector = 0;
    bool interrupts = false;
  };

  explicit CompletionQueue(const Options& options) : options_(options) {}

  const Options& options() const { return options_; }
  uint64_t size_bytes() const { return uint64_t{options_.size} * sizeof(nvme::Completion); }
  /// Sets the address of the ring in this process; null while the memory is not mapped.
  void SetRing(std::byte* ring) { ring_ = ring; }

  /// Returns false if the host wrote an invalid head.
  bool SetHead(uint32_t head) {
    if (head >= options_.size) return false;
    head_ = head;
    return true;
  }
  uint32_t head() const { return head_; }
  /// Returns true if the host is known to have consumed all entries.
  bool empty() const { return head_ == tail_; }
  /// Returns true if there is room for another entry.
  bool CanPost() const { return ring_ != nullptr && Next(tail_) != head_; }
  void Post(const nvme::Completion& completion);

  /// Queues a completion for which there is no room; the order is kept.
  void Wait(MemoryRequest& request) { waiting_.Append(request); }
  /// Returns the first waiting completion; null if there is none.
  MemoryRequest* waiting() const { return waiting_.first(); }
  MemoryRequest& TakeWaiting() { return waiting_.TakeFirst(); }
  /// Drops the waiting completions of a queue pair.
  void DropWaiting(const QueuePair& queue_pair);

  uint32_t submission_queue_count = 0;
  uint32_t unsignalled = 0;  // posted since the last interrupt
  uint64_t first_unsignalled_ns = 0;

 private:
  uint32_t Next(uint32_t index) const { return index + 1 == options_.size ? 0 : index + 1; }

  const Options options_;
  std::byte* ring_ = nullptr;
  uint32_t head_ = 0;
  uint32_t tail_ = 0;
  uint16_t phase_ = 1;
  base::IntrusiveList<MemoryRequest> waiting_;
};

}  // namespace sma::storage_target::nvmf::vfio_user
