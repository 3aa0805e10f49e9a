// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/context.h"
#include "jsonrpc/call_scope.h"

namespace sma::jsonrpc {

/// The requests that ended without an answer, by the objects that they affect. Requests without
/// objects are not recorded. Not thread-safe.
class LateCalls {
 public:
  /// Records that the request `id` ended without an answer at `now`. Drops the oldest requests if
  /// there are too many.
  void Add(uint64_t id, const CallObjects& objects, base::TimePoint now);

  /// To be called when the answer to the request `id` has arrived.
  void Remove(uint64_t id);

  /// To be called when the connection of this request, and of all requests that were added before
  /// it, is lost.
  void Lose(const CallObjects& objects, base::TimePoint now);
  void LoseAll(base::TimePoint now);

  /// Returns true if, at `now`, the target may still execute a request about one of `objects`: one
  /// that ended at most `max_answer_time` ago, or whose connection was lost at most `after_loss`
  /// ago.
  bool Any(std::span<const std::string> objects, base::TimePoint now,
           std::chrono::nanoseconds after_loss, std::chrono::nanoseconds max_answer_time) const;

 private:
  struct Call {
    CallObjects objects;
    base::TimePoint given_up;
  };

  void Forget(uint64_t id, const CallObjects& objects);

  std::map<uint64_t, Call> calls_;
  std::unordered_map<std::string, std::map<uint64_t, base::TimePoint>> unanswered_;  // by object
  std::unordered_map<std::string, base::TimePoint> lost_;  // by object: the time of the last loss
};

}  // namespace sma::jsonrpc
