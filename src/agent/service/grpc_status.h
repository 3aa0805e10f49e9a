#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace sma::service {

/// The one place where an agent's error becomes gRPC's. The codes are the same; one that gRPC does
/// not know becomes UNKNOWN. A message that is too long for a client's limit on headers (8 KiB by
/// default) is cut.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace sma::service
