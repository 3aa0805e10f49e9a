// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/core/core.h"
#include "agent/spdk/bdev.h"
#include "base/context.h"

namespace sma::core {

/// Returns true if the limits `there` of a bdev include those `wanted`; a limit that is not set in
/// `wanted` may have any value.
bool AreApplied(const spdk::RateLimits& there, const spdk::RateLimits& wanted);

/// Returns those of the devices `handles` that have a volume whose limits on the target differ from
/// the record. Queries only the bdevs of volumes with limits, in batches with a time limit of
/// `portion_time` each. A volume without a bdev is ignored. Returns the errors of
/// jsonrpc::Caller::CallMany.
absl::StatusOr<std::vector<std::string>> FindChangedLimits(const Core& core,
                                                           const base::Context& context,
                                                           std::chrono::nanoseconds portion_time,
                                                           std::span<const std::string> handles);

}  // namespace sma::core
