#pragma once

#include <cstdint>

// For the reactor's own sources.

namespace sma::target {

constexpr uint64_t kForever = UINT64_MAX;  // as a time to wait until, or to wait for
constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kNsPerMs = 1'000'000;

}  // namespace sma::target
