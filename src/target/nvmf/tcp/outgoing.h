#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace sma::target::nvmf::tcp {

/// Bytes that wait to be sent: a PDU, or the few that answer a command. Embedded in what owns the
/// bytes.
struct Outgoing {
  enum class Kind : uint8_t { kR2t, kResponse, kOther };
  Kind kind = Kind::kResponse;
  uint8_t first =
      0;  // the first of `pieces` that is not sent whole; it is cut to what is left of it
  uint8_t count = 0;
  /// Whether pieces[1] is blocks in the memory of a bdev. kCopied: other reactors may write them,
  /// so they are copied before they are sent. pieces[0], once it is sent, is what is sent next from
  /// a copy.
  enum class Blocks : uint8_t { kNone, kInPlace, kCopied };
  Blocks blocks = Blocks::kNone;
  std::array<iovec, 3> pieces;
  Outgoing* next = nullptr;

  void Add(const void* bytes, size_t size_bytes) {
    pieces[count++] = {const_cast<void*>(bytes), size_bytes};
  }
  void Clear() {
    first = count = 0;
    blocks = Blocks::kNone;
  }
};

/// First in, first out.
class OutgoingQueue {
 public:
  bool empty() const { return head_ == nullptr; }
  Outgoing* head() const { return head_; }
  void Push(Outgoing& item) {
    item.next = nullptr;
    *tail_ = &item;
    tail_ = &item.next;
  }
  Outgoing& Pop() {
    Outgoing& item = *head_;
    head_ = item.next;
    if (head_ == nullptr) tail_ = &head_;
    return item;
  }

 private:
  Outgoing* head_ = nullptr;
  Outgoing** tail_ = &head_;
};

}  // namespace sma::target::nvmf::tcp
