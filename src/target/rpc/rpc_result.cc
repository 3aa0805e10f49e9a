#include "target/rpc/rpc_result.h"

#include <cstring>

namespace sma::target::rpc {

RpcError ErrnoError(int error) { return {-error, ::strerror(error)}; }

RpcError ErrnoError(int error, std::string message) { return {-error, std::move(message)}; }

RpcError InvalidParamsErrno(int error) { return {jsonrpc::kInvalidParams, ::strerror(error)}; }

RpcError InvalidParams(std::string message) {
  return {jsonrpc::kInvalidParams, std::move(message)};
}

RpcError InternalError(std::string message) {
  return {jsonrpc::kInternalError, std::move(message)};
}

RpcError DecodeError() { return {jsonrpc::kInternalError, "spdk_json_decode_object failed"}; }

RpcResult TrueOrErrno(int error) {
  if (error != 0) return ErrnoError(error);
  return Json(true);
}

}  // namespace sma::target::rpc
