#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace sma::jsonrpc {

/// The error object of an answer (JSON-RPC 2.0 §5.1). `code` is one of the reserved codes or, from
/// SPDK, mostly a negative errno value.
struct TargetError {
  int code = 0;
  std::string message;
};

/// The status of a call of `method` that the target answered with `error`. Its text holds the
/// method and the target's code and words. Its code by default: -ENOENT, -ENODEV, -ENXIO NOT_FOUND;
/// -EEXIST ALREADY_EXISTS; -EINVAL, -ERANGE and "invalid params" INVALID_ARGUMENT; -ENOMEM,
/// -ENOSPC, -EMFILE RESOURCE_EXHAUSTED; -EBUSY, -EPERM (which SPDK uses for "not in this state")
/// FAILED_PRECONDITION; -EACCES PERMISSION_DENIED; -EAGAIN, -ETIMEDOUT, -ENOTCONN, -ECONNREFUSED,
/// -EHOSTUNREACH, -ENETUNREACH UNAVAILABLE; -ENOTSUP and "method not found" UNIMPLEMENTED; all
/// others INTERNAL.
absl::Status TargetErrorStatus(std::string_view method, const TargetError& error);

/// The target's own error when `status` was made by TargetErrorStatus (also after its code or text
/// was replaced, as long as its payloads were kept).
std::optional<TargetError> GetTargetError(const absl::Status& status);

/// True when the request went out (or may have gone out) whole and no answer will be seen: the call
/// was cancelled, its deadline passed or the connection was lost, so that the target may have done,
/// may be doing or may yet do what was asked. False when the call succeeded, when the target
/// answered with an error and when nothing was sent.
bool IsFateUnknown(const absl::Status& status);

/// `status` marked so that IsFateUnknown is true of it; for callers that replace the status of a
/// call.
absl::Status WithFateUnknown(absl::Status status);

/// `status` without that mark.
absl::Status WithoutFate(absl::Status status);

}  // namespace sma::jsonrpc
