// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/rpc_result.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace sma::storage_target::rpc {

RpcError ErrnoError(int error) { return ErrnoError(error, ::strerror(error)); }

RpcError ErrnoError(int error, std::string message) {
  return {.code = -error, .message = std::move(message)};
}

RpcError InvalidParamsErrno(int error) { return InvalidParams(::strerror(error)); }

RpcError InvalidParams(std::string message) {
  return {.code = jsonrpc::kInvalidParams, .message = std::move(message)};
}

RpcError InternalError(std::string message) {
  return {.code = jsonrpc::kInternalError, .message = std::move(message)};
}

RpcError NotSupported(std::string_view parameter) {
  return {.code = jsonrpc::kInvalidParams,
          .message =
              absl::StrCat("parameter ", std::string(parameter), ": not supported with this value"),
          .is_unsupported = true};
}

RpcError DecodeError() { return InternalError("spdk_json_decode_object failed"); }

RpcResult TrueOrErrno(int error) {
  if (error != 0) return ErrnoError(error);
  return Json(true);
}

}  // namespace sma::storage_target::rpc
