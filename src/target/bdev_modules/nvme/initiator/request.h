#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "target/nvme/command.h"

namespace sma::target::initiator {

/// One command and its data. The submitter embeds it, fills the first part, gives it to
/// QueuePair::Submit and leaves it and the data alone until `done`, which runs in the queue pair's
/// thread, never before Submit has returned.
struct Request {
  // The submitter's. The queue pair fills in the command's CID, flags and data pointer (SGL).
  nvme::Command command;
  const iovec* iovs = nullptr;  // `data_bytes` at least; which way they go, the opcode says
  uint32_t iov_count = 0;
  uint32_t data_bytes = 0;
  size_t iov_offset_bytes = 0;  // where the data begin in the first of `iovs`
  /// `completion.status` tells how it ended. When the connection was lost before the answer came it
  /// is kHostPathingError, and ConnectionLost(completion) is true.
  void (*done)(Request& self, const nvme::Completion& completion) = nullptr;

  // The queue pair's, from Submit to `done`.
  Request* next = nullptr;
};

/// The SQ identifier of completions that this host made itself because the connection was lost. No
/// queue of NVMe-oF has it, and those of a controller are not passed on with it.
inline constexpr uint16_t kLostConnectionSqId = 0xffff;
inline bool ConnectionLost(const nvme::Completion& completion) {
  return completion.sq_id == kLostConnectionSqId;
}

/// The direction of the data of any command, Fabrics ones included (NVMe Base 2.0 §3.3.3.1, §6).
inline nvme::Transfer TransferOf(const nvme::Command& command) {
  bool fabrics = command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::kFabrics);
  return nvme::TransferOf(fabrics ? static_cast<uint8_t>(command.nsid) : command.opcode);
}

/// A first-in-first-out list of requests, linked through Request::next.
class RequestList {
 public:
  bool empty() const { return head_ == nullptr; }
  void Push(Request& request) {
    request.next = nullptr;
    *tail_ = &request;
    tail_ = &request.next;
  }
  /// nullptr when empty.
  Request* Pop() {
    Request* first = head_;
    if (first == nullptr) return nullptr;
    head_ = first->next;
    if (head_ == nullptr) tail_ = &head_;
    return first;
  }
  Request* front() const { return head_; }
  /// Moves all of `other` to the end.
  void Take(RequestList& other) {
    while (Request* request = other.Pop()) Push(*request);
  }
  /// False if `request` is not in the list. O(its position).
  bool Remove(Request& request) {
    for (Request **link = &head_, *at = head_; at != nullptr; link = &at->next, at = at->next) {
      if (at != &request) continue;
      *link = at->next;
      if (tail_ == &at->next) tail_ = link;
      return true;
    }
    return false;
  }

  RequestList() = default;
  RequestList(const RequestList&) = delete;
  RequestList& operator=(const RequestList&) = delete;

 private:
  Request* head_ = nullptr;
  Request** tail_ = &head_;
};

}  // namespace sma::target::initiator
