#pragma once

#include <string>
#include <utility>
#include <variant>

#include "jsonrpc/protocol.h"

namespace sma::target::rpc {

using jsonrpc::Json;

/// The error object of an answer.
struct RpcError {
  int code = 0;
  std::string message;
};

/// `error` (a positive errno value) as SPDK answers it: the code is the negative value, the message
/// strerror's words.
RpcError ErrnoError(int error);
/// The same with words of its own.
RpcError ErrnoError(int error, std::string message);
/// -32602 with strerror's words, as some of SPDK's methods answer.
RpcError InvalidParamsErrno(int error);
RpcError InvalidParams(std::string message = "Invalid parameters");  // -32602
RpcError InternalError(std::string message = "Internal error");      // -32603
/// What SPDK answers when parameters are missing, unknown or of the wrong type.
RpcError DecodeError();

/// What a method answers.
class RpcResult {
 public:
  RpcResult(Json result) : value_(std::move(result)) {}    // NOLINT(google-explicit-constructor)
  RpcResult(RpcError error) : value_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return std::holds_alternative<Json>(value_); }
  Json& result() { return std::get<Json>(value_); }
  const RpcError& error() const { return std::get<RpcError>(value_); }

 private:
  std::variant<Json, RpcError> value_;
};

/// true, or what `error` (0 or a positive errno value) stands for.
RpcResult TrueOrErrno(int error);

}  // namespace sma::target::rpc
