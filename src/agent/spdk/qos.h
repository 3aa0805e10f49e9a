#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "agent/spdk/bdev.h"
#include "sma.pb.h"

namespace sma::spdk {

/// In QosLimit: leave the limit as it is.
inline constexpr uint64_t kKeepLimit = UINT64_MAX;

/// The limits that a bdev can have.
GetQosCapabilitiesResponse::QosCapabilities BdevQosCapabilities();

/// `limits` in the target's units; those that are kept are unset. INVALID_ARGUMENT: a limit is too
/// large for them.
absl::StatusOr<RateLimits> ToRateLimits(const QosLimit& limits);

}  // namespace sma::spdk
