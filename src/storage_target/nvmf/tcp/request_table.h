// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>

#include "storage_target/nvmf/tcp/mapped_memory.h"
#include "storage_target/nvmf/tcp/tcp_request.h"

namespace sma::storage_target::nvmf::tcp {

/// The requests of a connection, as many as its queue depth, each with a slot of memory for small
/// data. Requests after the first are constructed, and their memory touched, only when that many
/// commands are outstanding; Trim releases them. An idle connection therefore does not use memory
/// for its full queue depth. Owned by the connection's reactor.
class RequestTable {
 public:
  /// Creates a table without requests. `owner` is the queue pair of the requests.
  explicit RequestTable(QueuePair& owner) : owner_(owner) {}
  RequestTable(const RequestTable&) = delete;
  RequestTable& operator=(const RequestTable&) = delete;

  /// Creates the first request, the only one until Grow. `slot` remains owned by the caller.
  void AddFirst(std::byte* slot);
  /// Allows `size` requests in total. `slots` has `slot_bytes` bytes for each request except the
  /// first. Returns false if there is no memory.
  bool Grow(uint32_t size, MappedMemory slots, size_t slot_bytes);

  bool has_free() const { return free_ != nullptr || count_ < size_; }
  /// Returns a request in state kFree, which the caller changes; nullptr if all are in use.
  TcpRequest* Allocate() {
    if (free_ == nullptr) return count_ < size_ ? &Construct(count_++) : nullptr;
    TcpRequest* request = free_;
    free_ = request->next;
    return request;
  }
  void Free(TcpRequest& request) {
    request.state = TcpRequest::State::kFree;
    request.next = free_;
    free_ = &request;
  }

  /// Returns the number of constructed requests, which have the indices 0 to count() - 1.
  uint32_t count() const { return count_; }
  TcpRequest& At(uint32_t index) { return index == 0 ? first_ : more()[index - 1]; }

  /// Releases the memory of the slots, which no request may be using, and of the requests after the
  /// last one in use.
  void Trim();

 private:
  TcpRequest* more() const { return reinterpret_cast<TcpRequest*>(more_.data()); }
  TcpRequest& Construct(uint32_t index);
  void Initialize(TcpRequest& request, uint32_t index, std::byte* slot) const;

  QueuePair& owner_;
  TcpRequest first_;
  MappedMemory more_;   // all but the first
  MappedMemory slots_;  // the slots of `more_`
  size_t slot_bytes_ = 0;
  uint32_t size_ = 0;
  uint32_t count_ = 0;
  TcpRequest* free_ = nullptr;
};

}  // namespace sma::storage_target::nvmf::tcp
