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

/// The requests of one CallMany on their way.
struct CallGroup {
  std::span<const Request> requests;
  CallObjects objects;  // null: about none
  uint64_t first_id = 0;
  std::vector<size_t> ends;  // EncodedRequests::ends
  SendQueue::PieceId piece = 0;
  std::vector<absl::StatusOr<Json>> results;
  std::vector<base::TimePoint> ended_at;
  size_t open = 0;    // requests without a result
  base::Event ended;  // open became 0, by another thread than the caller's

  const std::string& method(uint64_t id) const { return requests[id - first_id].method; }
};

/// The calls that go over a client's connection: what is to be written, who waits for which answer,
/// and what became of the calls that get none. Not synchronised.
class PendingCalls {
 public:
  /// Queues `text`, which carries the requests of `group`. `group` must live until it has been
  /// given up, or until it has come out of TakeEnded and its event is set.
  void Add(CallGroup& group, std::string text);

  /// Writes what the socket takes. 0, or the errno value of the broken connection.
  int Flush(int socket) { return output_.Flush(socket); }
  bool has_output() const { return !output_.empty(); }

  /// Ends the calls of `group` that are open with `why`. False, and nothing is done, where none is.
  bool GiveUp(CallGroup& group, const absl::Status& why);

  /// Ends the calls that `answers` belong to. False when one answers an id from `end_id` on, or 0:
  /// no request had it.
  bool Deliver(std::vector<Answer>& answers, uint64_t end_id);

  /// Ends all calls with UNAVAILABLE, because the connection is lost.
  void FailAll(const std::string& reason);

  /// Calls that were ended without their answer.
  const LateCalls& late() const { return late_; }

  /// The groups whose last call Deliver or FailAll has ended since the last time. Their events are
  /// to be set when no lock is held any more: those who wait then go on without meeting at it.
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
