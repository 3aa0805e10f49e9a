// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "jsonrpc/caller.h"

namespace sma::spdk {

using Results = std::vector<absl::StatusOr<jsonrpc::Json>>;

/// How long after its caller's deadline a call that changes the target continues to wait for the
/// answer, because a change can be rolled back only if its result is known.
inline constexpr std::chrono::seconds kSettleTime{5};

/// Like Caller::CallMany, for requests that change the target: sends nothing if `context` has
/// ended, but once sent, waits for the answers until kSettleTime after its deadline. Cancelling
/// `context` ends the wait immediately. The caller must check `context` afterwards.
Results CallToEnd(jsonrpc::Caller& target, const base::Context& context,
                  std::span<const jsonrpc::Request> requests);

/// Like CallToEnd() for a single request.
absl::StatusOr<jsonrpc::Json> CallToEnd(jsonrpc::Caller& target, const base::Context& context,
                                        jsonrpc::Request request);

/// Like CallToEnd() for a request whose result is not needed.
absl::Status DoToEnd(jsonrpc::Caller& target, const base::Context& context,
                     jsonrpc::Request request);

/// Returns a context for rolling back a call, independent of the caller's context.
base::Context UndoContext();

/// Returns an INTERNAL error that says that the target's answer to `method` is malformed.
absl::Status MalformedAnswer(std::string_view method);

/// Converts the array that `method` answered with. `parse` returns an element as std::optional,
/// which is nullopt if the element is malformed. Returns INTERNAL if `answer` is not an array or an
/// element is malformed.
template <typename Parse>
auto ParseArray(const jsonrpc::Json& answer, std::string_view method, Parse parse)
    -> absl::StatusOr<std::vector<typename decltype(parse(answer))::value_type>> {
  if (!answer.is_array()) return MalformedAnswer(method);
  std::vector<typename decltype(parse(answer))::value_type> elements;
  elements.reserve(answer.size());
  for (const jsonrpc::Json& entry : answer) {
    auto element = parse(entry);
    if (!element) return MalformedAnswer(method);
    elements.push_back(*std::move(element));
  }
  return elements;
}

/// Returns the element of an array that must have exactly one. Returns INTERNAL if it has more or
/// none, and the error of `elements` if there is one.
template <typename Element>
absl::StatusOr<std::optional<Element>> TakeOnly(absl::StatusOr<std::vector<Element>> elements,
                                                std::string_view method) {
  if (!elements.ok()) return elements.status();
  if (elements->size() != 1) return MalformedAnswer(method);
  return std::optional(std::move(elements->front()));
}

}  // namespace sma::spdk
