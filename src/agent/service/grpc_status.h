// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace sma::service {

/// The only conversion of the agent's errors to gRPC statuses. The codes are the same; a code
/// unknown to gRPC becomes UNKNOWN. A message that would exceed a client's limit on headers (8 KiB
/// by default) is truncated.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace sma::service
