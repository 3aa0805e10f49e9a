#pragma once

#include <chrono>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "jsonrpc/caller.h"

namespace sma::spdk {

using Results = std::vector<absl::StatusOr<jsonrpc::Json>>;

/// How much longer than its caller's deadline a call that changes the target waits for its answer:
/// knowing what was done is what makes it possible to undo it.
inline constexpr std::chrono::seconds kSettleTime{5};

/// As Caller::CallMany, for requests that change something: nothing is sent when `context` is over,
/// but once sent, answers are waited for until kSettleTime after its deadline. A cancelled context
/// ends the wait at once. The caller of this looks at `context` afterwards.
Results CallToEnd(jsonrpc::Caller& target, const base::Context& context,
                  std::span<const jsonrpc::Request> requests);

/// The same for one request.
absl::StatusOr<jsonrpc::Json> CallToEnd(jsonrpc::Caller& target, const base::Context& context,
                                        jsonrpc::Request request);

/// The same, when all that matters of the result is that there is one.
absl::Status DoToEnd(jsonrpc::Caller& target, const base::Context& context,
                     jsonrpc::Request request);

/// A context for undoing what a call did, independent of the caller's.
base::Context UndoContext();

/// INTERNAL: the target's answer to `method` does not have the form it should have.
absl::Status MalformedAnswer(std::string_view method);

}  // namespace sma::spdk
