// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>

#include "storage_target/reactor/work.h"

namespace sma::storage_target {

/// A lock-free queue with many producers and one consumer. Does not allocate.
class MessageQueue {
 public:
  /// May be called from any thread.
  void Push(Message& message) {
    Message* head = head_.load(std::memory_order_relaxed);
    do {
      message.next = head;
    } while (!head_.compare_exchange_weak(head, &message, std::memory_order_seq_cst,
                                          std::memory_order_relaxed));
  }

  bool empty() const { return head_.load(std::memory_order_seq_cst) == nullptr; }

  /// Removes all messages and returns them as a list in push order, linked by `next`. May be called
  /// only from the consumer thread.
  Message* TakeAll() {
    Message* newest_first = head_.exchange(nullptr, std::memory_order_acquire);
    Message* oldest_first = nullptr;
    while (newest_first != nullptr) {
      Message* next = newest_first->next;
      newest_first->next = oldest_first;
      oldest_first = newest_first;
      newest_first = next;
    }
    return oldest_first;
  }

 private:
  std::atomic<Message*> head_{nullptr};
};

}  // namespace sma::storage_target
