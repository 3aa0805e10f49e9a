// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/event.h"
#include "jsonrpc/caller.h"
#include "jsonrpc/client.h"
#include "jsonrpc/late_calls.h"
#include "jsonrpc/message.h"
#include "jsonrpc/send_queue.h"

namespace sma::jsonrpc {

/// The outstanding requests of one CallMany.
struct CallGroup {
  std::span<const Request> requests;
  CallObjects objects;  // null: the calls affect no object
  uint64_t first_id = 0;
  std::vector<size_t> ends;  // EncodedRequests::ends
  SendQueue::PieceId piece = 0;
  std::vector<absl::StatusOr<Json>> results;
  std::vector<base::TimePoint> ended_at;
  size_t open = 0;    // requests without a result
  base::Event ended;  // set when a thread other than the caller's has made `open` 0

  const std::string& method(uint64_t id) const { return requests[id - first_id].method; }
};

/// The calls of a client's connection: bytes to be written, callers that wait for answers, and
/// calls that ended without an answer. Not thread-safe.
class PendingCalls {
 public:
  /// Queues `text`, the encoded requests of `group`. `group` must live until GiveUp(), or until
  /// TakeEnded() has returned it and its event is set.
  void Add(CallGroup& group, std::string text);

  /// Writes as much as the socket accepts. Returns 0, or the errno value of a broken connection.
  int Flush(int socket) { return output_.Flush(socket); }
  bool has_output() const { return !output_.empty(); }

  /// Ends the open calls of `group` with the error `why`. If none is open, does nothing and returns
  /// false.
  bool GiveUp(CallGroup& group, const absl::Status& why);

  /// Ends the calls to which `answers` belong. Returns false if an answer has an id that no request
  /// has: 0, or one that is not less than `end_id`.
  bool Deliver(std::vector<Answer>& answers, uint64_t end_id);

  /// Ends all calls with UNAVAILABLE, because the connection is lost.
  void FailAll(const std::string& reason);

  /// Returns the calls that ended without an answer.
  const LateCalls& late() const { return late_; }

  /// Returns the groups whose last call has been ended by Deliver or FailAll since the last
  /// TakeEnded. Set their events after releasing the lock, so that the woken threads do not contend
  /// for it.
  std::vector<CallGroup*> TakeEnded() { return std::exchange(ended_, {}); }

  const ClientStats& stats() const { return stats_; }

 private:
  void End(uint64_t id, CallGroup& group, absl::StatusOr<Json> result);

  SendQueue output_;
  std::unordered_map<uint64_t, CallGroup*> open_;  // by id
  std::vector<CallGroup*> ended_;
  LateCalls late_;
  ClientStats stats_;
};

}  // namespace sma::jsonrpc
