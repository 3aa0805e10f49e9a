// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

// Constants that only the sources of the reactor use.

namespace sma::storage_target {

constexpr uint64_t kForever = UINT64_MAX;  // as a point in time or as a duration
constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kNsPerMs = 1'000'000;

}  // namespace sma::storage_target
