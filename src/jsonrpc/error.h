// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace sma::jsonrpc {

/// The error object of an answer (JSON-RPC 2.0 §5.1). `code` is a reserved code or, from SPDK,
/// usually a negative errno value.
struct TargetError {
  int code = 0;
  std::string message;
};

/// Returns the status of a call of `method` that the target answered with `error`. Its message
/// contains the method, and the code and message of the target. Its code is derived from that of
/// the target: -ENOENT, -ENODEV and -ENXIO become NOT_FOUND; -EEXIST becomes ALREADY_EXISTS;
/// -EINVAL, -ERANGE and "invalid params" become INVALID_ARGUMENT; -ENOMEM, -ENOSPC and -EMFILE
/// become RESOURCE_EXHAUSTED; -EBUSY and -EPERM (which SPDK uses for "not in this state") become
/// FAILED_PRECONDITION; -EACCES becomes PERMISSION_DENIED; -EAGAIN, -ETIMEDOUT, -ENOTCONN,
/// -ECONNREFUSED, -EHOSTUNREACH and -ENETUNREACH become UNAVAILABLE; -ENOTSUP and "method not
/// found" become UNIMPLEMENTED; all others become INTERNAL.
absl::Status TargetErrorStatus(std::string_view method, const TargetError& error);

/// Returns the target's own error if `status` was created by TargetErrorStatus, even if its code
/// or message was replaced, provided that its payloads were kept.
std::optional<TargetError> GetTargetError(const absl::Status& status);

/// Returns true if the request was, or may have been, sent completely and no answer will be
/// received, because the call was cancelled, its deadline passed, or the connection was lost: the
/// target may have executed the request, or may still execute it. Returns false if the call
/// succeeded, if the target answered with an error, and if nothing was sent.
bool IsFateUnknown(const absl::Status& status);

/// Returns `status` with a mark that makes IsFateUnknown true; for callers that replace the status
/// of a call.
absl::Status WithFateUnknown(absl::Status status);

/// Returns `status` without that mark.
absl::Status WithoutFate(absl::Status status);

}  // namespace sma::jsonrpc
