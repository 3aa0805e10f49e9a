// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/caller.h"

#include <utility>

namespace sma::jsonrpc {

absl::StatusOr<Json> Caller::Call(const base::Context& context, std::string method, Json params) {
  return Call(context, Request{std::move(method), std::move(params)});
}

absl::StatusOr<Json> Caller::Call(const base::Context& context, const Request& request) {
  return std::move(CallMany(context, {&request, 1}).front());
}

}  // namespace sma::jsonrpc
