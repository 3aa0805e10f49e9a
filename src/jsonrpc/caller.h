// SPDX-License-Identifier: Apache-2.0

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

/// Calls the methods of a target. Implemented by Client, and by fakes in tests. Thread-safe.
class Caller {
 public:
  virtual ~Caller() = default;

  /// Calls `method` and waits for the answer. Returns its result, or an error as described for
  /// CallMany.
  virtual absl::StatusOr<Json> Call(const base::Context& context, std::string method, Json params);
  /// Like Call() above, with a prepared request.
  absl::StatusOr<Json> Call(const base::Context& context, const Request& request);

  /// Sends all `requests` together and waits for all answers. Returns one result for each request,
  /// in their order. The target starts the requests in this order, but may run them concurrently; a
  /// failed request does not prevent the following ones.
  ///
  /// Errors: the target's own error (GetTargetError); INVALID_ARGUMENT if a request is too large or
  /// contains text that is not UTF-8, in which case none of them is sent; UNAVAILABLE if there was
  /// no connection in time or it was lost while waiting; CANCELLED or DEADLINE_EXCEEDED if
  /// `context` ended first, in which case later answers are dropped. For each result, IsFateUnknown
  /// says whether the target may have executed the request nevertheless.
  virtual std::vector<absl::StatusOr<Json>> CallMany(const base::Context& context,
                                                     std::span<const Request> requests) = 0;

  /// Returns the number of connections made so far; 0 before the first one. If the value has
  /// changed, the target may have been restarted in between.
  virtual uint64_t generation() const = 0;

  /// Returns true if the target may still execute a request about one of `objects` (CallScope) that
  /// ended with IsFateUnknown. This is the case until the answer arrives, in whatever order the
  /// target answers, or, if the connection was lost, until `after_loss` has passed since the loss.
  /// Requests that only read (OnlyReads) are ignored.
  virtual bool MayActLate(std::span<const std::string> objects,
                          std::chrono::nanoseconds after_loss) const = 0;
};

}  // namespace sma::jsonrpc
