// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "agent/spdk/bdev.h"
#include "sma.pb.h"

namespace sma::spdk {

/// The value in a QosLimit that leaves a limit unchanged.
inline constexpr uint64_t kKeepLimit = UINT64_MAX;

/// Returns the limits that bdevs support.
GetQosCapabilitiesResponse::QosCapabilities BdevQosCapabilities();

/// Converts `limits` to the target's units; limits to be left unchanged are unset. Returns
/// INVALID_ARGUMENT if a limit exceeds the target's range.
absl::StatusOr<RateLimits> ToRateLimits(const QosLimit& limits);

}  // namespace sma::spdk
