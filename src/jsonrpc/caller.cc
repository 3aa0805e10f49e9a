#include "jsonrpc/caller.h"

#include <utility>

namespace sma::jsonrpc {

absl::StatusOr<Json> Caller::Call(const base::Context& context, std::string method, Json params) {
  const Request request{std::move(method), std::move(params)};
  return std::move(CallMany(context, {&request, 1}).front());
}

}  // namespace sma::jsonrpc
