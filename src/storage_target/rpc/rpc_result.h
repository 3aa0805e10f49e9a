// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "jsonrpc/protocol.h"

namespace sma::storage_target::rpc {

using jsonrpc::Json;

/// The error object of a response.
struct RpcError {
  int code = 0;
  std::string message;
  /// True if the call requests something that this target does not support. When a configuration is
  /// loaded, such a call is skipped.
  bool is_unsupported = false;
};

/// Returns SPDK's error for `error` (a positive errno value): the code is its negative value, the
/// message that of strerror.
RpcError ErrnoError(int error);
/// Like ErrnoError(error), but with the given message.
RpcError ErrnoError(int error, std::string message);
/// Returns an error with code -32602 and the message of strerror, as some of SPDK's methods do.
RpcError InvalidParamsErrno(int error);
RpcError InvalidParams(std::string message = "Invalid parameters");  // -32602
RpcError InternalError(std::string message = "Internal error");      // -32603
/// Returns an error with code -32602 for a value of `parameter` that this target does not support.
RpcError NotSupported(std::string_view parameter);
/// SPDK's error for missing, unknown or wrongly typed parameters.
RpcError DecodeError();

/// The result of a method.
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

/// Returns true, or the error for `error` (0 or a positive errno value).
RpcResult TrueOrErrno(int error);

}  // namespace sma::storage_target::rpc
