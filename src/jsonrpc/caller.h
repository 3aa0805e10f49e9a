#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "jsonrpc/protocol.h"

namespace sma::jsonrpc {

struct Request {
  std::string method;
  Json params;  // an object or array; null: sent without params
};

/// Who calls a target's methods: Client, or what a test puts in its place. Thread-safe.
class Caller {
 public:
  virtual ~Caller() = default;

  /// Calls `method` and waits for the answer: its result, or an error as CallMany says.
  virtual absl::StatusOr<Json> Call(const base::Context& context, std::string method, Json params);

  /// Sends all of `requests` at once and waits for all answers; one result for each request, in
  /// their order. The target starts them in this order but does not wait for one before it starts
  /// the next, and one that fails does not stop those behind it.
  ///
  /// Errors: what the target answered (GetTargetError) · INVALID_ARGUMENT: a request is too large
  /// or holds text that is not UTF-8; then none of them is sent · UNAVAILABLE: not connected in
  /// time, or the connection was lost while waiting · CANCELLED, DEADLINE_EXCEEDED: `context` ended
  /// first; answers that come later are dropped. IsFateUnknown tells for each result whether the
  /// target may have acted on it all the same.
  virtual std::vector<absl::StatusOr<Json>> CallMany(const base::Context& context,
                                                     std::span<const Request> requests) = 0;

  /// How many connections to the target have been made so far: grows by one with each connect, so a
  /// caller that sees another value than before talks to a target that may have been restarted. 0
  /// before the first.
  virtual uint64_t generation() const = 0;

  /// Whether the target may still act on a request about one of `objects` (CallScope) whose caller
  /// was told that its fate is unknown. It may while there is no answer to it, in whatever order it
  /// answers; when the connection was lost, for the time `after_loss` from then on. Requests that
  /// only read (OnlyReads) do not count.
  virtual bool MayActLate(std::span<const std::string> objects,
                          std::chrono::nanoseconds after_loss) const = 0;
};

}  // namespace sma::jsonrpc
