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

/// The requests that were given up without an answer, by the objects that they are about. Those
/// about no object are not kept. Not synchronised.
class LateCalls {
 public:
  /// The request `id` was given up at `now`. When there are too many the oldest go.
  void Add(uint64_t id, const CallObjects& objects, base::TimePoint now);

  /// Its answer has come.
  void Remove(uint64_t id);

  /// The connection over which it was sent is lost; so is that of all that were added before.
  void Lose(const CallObjects& objects, base::TimePoint now);
  void LoseAll(base::TimePoint now);

  /// Whether the target may at `now` act on one about any of `objects`: it was given up no longer
  /// than `max_answer_time` ago, or its connection was lost no longer than `after_loss` ago.
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
  std::unordered_map<std::string, base::TimePoint> lost_;  // by object: when, the last time
};

}  // namespace sma::jsonrpc
