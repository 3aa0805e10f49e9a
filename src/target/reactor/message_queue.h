#pragma once

#include <atomic>

#include "target/reactor/work.h"

namespace sma::target {

/// A queue that many threads push to and one drains, without locks or allocation.
class MessageQueue {
 public:
  /// Any thread.
  void Push(Message& message) {
    Message* head = head_.load(std::memory_order_relaxed);
    do {
      message.next = head;
    } while (!head_.compare_exchange_weak(head, &message, std::memory_order_seq_cst,
                                          std::memory_order_relaxed));
  }

  bool empty() const { return head_.load(std::memory_order_seq_cst) == nullptr; }

  /// Takes all: a list in the order of the pushes, linked by `next`. The draining thread only.
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

}  // namespace sma::target
