#pragma once

#include <cassert>

#include "target/bdev/io.h"

namespace sma::target::bdev {

/// I/Os in the order in which they wait, linked through themselves: any of them can leave at once.
/// An I/O is in one queue at a time; who has it, the bdev layer or its module, may use its links.
/// Not thread-safe.
class IoQueue {
 public:
  IoQueue() { ends_.next = ends_.previous = &ends_; }
  ~IoQueue() { assert(empty()); }
  IoQueue(const IoQueue&) = delete;
  IoQueue& operator=(const IoQueue&) = delete;

  bool empty() const { return ends_.next == &ends_; }

  void Append(Io& io) {
    io.next = &ends_;
    io.previous = ends_.previous;
    ends_.previous->next = &io;
    ends_.previous = &io;
  }

  /// The first, or nullptr if the queue is empty.
  Io* first() { return At(ends_.next); }
  /// The one after `io`, or nullptr if `io` is the last.
  Io* After(const Io& io) { return At(io.next); }

  /// Removes and returns the first; only if the queue is not empty.
  Io& TakeFirst() {
    Io& io = *first();
    Remove(io);
    return io;
  }

  /// Removes `io` from the queue that it is in.
  static void Remove(Io& io) {
    io.previous->next = io.next;
    io.next->previous = io.previous;
    io.next = io.previous = nullptr;
  }

 private:
  Io* At(IoLink* link) { return link == &ends_ ? nullptr : static_cast<Io*>(link); }

  IoLink ends_;
};

}  // namespace sma::target::bdev
