// SPDX-License-Identifier: Apache-2.0

#include "agent/spdk/call.h"

#include <fmt/format.h>

#include <utility>

#include "agent/spdk/firm_deadline.h"

namespace sma::spdk {

thread_local bool FirmDeadline::is_set_ = false;

Results CallToEnd(jsonrpc::Caller& target, const base::Context& context,
                  std::span<const jsonrpc::Request> requests) {
  if (absl::Status status = context.status(); !status.ok()) {
    return Results(requests.size(), status);
  }
  base::TimePoint deadline = context.deadline();
  const bool has_grace = !FirmDeadline::IsSet() && deadline < base::TimePoint::max() - kSettleTime;
  if (has_grace) deadline += kSettleTime;
  base::Context longer = base::Context::WithDeadline(deadline);
  uint64_t callback = context.AddCallback([longer] { longer.Cancel(); });
  Results results = target.CallMany(longer, requests);
  context.RemoveCallback(callback);
  return results;
}

absl::StatusOr<jsonrpc::Json> CallToEnd(jsonrpc::Caller& target, const base::Context& context,
                                        jsonrpc::Request request) {
  return std::move(CallToEnd(target, context, {&request, 1}).front());
}

absl::Status DoToEnd(jsonrpc::Caller& target, const base::Context& context,
                     jsonrpc::Request request) {
  return CallToEnd(target, context, std::move(request)).status();
}

base::Context UndoContext() { return base::Context::WithTimeout(kSettleTime); }

absl::Status MalformedAnswer(std::string_view method) {
  return absl::InternalError(fmt::format("{}: the target's answer is malformed", method));
}

}  // namespace sma::spdk
