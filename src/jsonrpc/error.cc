// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/error.h"

#include <fmt/format.h>

#include <cerrno>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "jsonrpc/protocol.h"

namespace sma::jsonrpc {
namespace {

constexpr char kTargetErrorPayload[] = "sma.jsonrpc/target-error";
constexpr char kFateUnknownPayload[] = "sma.jsonrpc/fate-unknown";

absl::StatusCode StatusCodeOf(int code) {
  switch (code) {
    case -ENOENT:
    case -ENODEV:
    case -ENXIO:
      return absl::StatusCode::kNotFound;
    case -EEXIST:
      return absl::StatusCode::kAlreadyExists;
    case -EINVAL:
    case -ERANGE:
    case kInvalidParams:
      return absl::StatusCode::kInvalidArgument;
    case -ENOMEM:
    case -ENOSPC:
    case -EMFILE:
      return absl::StatusCode::kResourceExhausted;
    case -EBUSY:
    case -EPERM:
      return absl::StatusCode::kFailedPrecondition;
    case -EACCES:
      return absl::StatusCode::kPermissionDenied;
    case -EAGAIN:
    case -ETIMEDOUT:
    case -ENOTCONN:
    case -ECONNREFUSED:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
      return absl::StatusCode::kUnavailable;
    case -ENOTSUP:
    case kMethodNotFound:
      return absl::StatusCode::kUnimplemented;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

absl::Status TargetErrorStatus(std::string_view method, const TargetError& error) {
  absl::Status status(StatusCodeOf(error.code),
                      fmt::format("{}: target error {}: {}", method, error.code, error.message));
  status.SetPayload(kTargetErrorPayload,
                    absl::Cord(fmt::format("{} {}", error.code, error.message)));
  return status;
}

std::optional<TargetError> GetTargetError(const absl::Status& status) {
  absl::optional<absl::Cord> payload = status.GetPayload(kTargetErrorPayload);
  if (!payload) return std::nullopt;
  std::string text(*payload);
  size_t space = text.find(' ');
  TargetError error;
  if (space == std::string::npos || !absl::SimpleAtoi(text.substr(0, space), &error.code)) {
    return std::nullopt;
  }
  error.message = text.substr(space + 1);
  return error;
}

bool IsFateUnknown(const absl::Status& status) {
  return status.GetPayload(kFateUnknownPayload).has_value();
}

absl::Status WithFateUnknown(absl::Status status) {
  status.SetPayload(kFateUnknownPayload, absl::Cord());
  return status;
}

absl::Status WithoutFate(absl::Status status) {
  status.ErasePayload(kFateUnknownPayload);
  return status;
}

}  // namespace sma::jsonrpc
