// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <functional>
#include <string_view>

#include "absl/status/status.h"

namespace sma::service {

/// Called for each unary call that has ended, with its method, its code, and the time since it
/// arrived. Called from several threads concurrently.
using CallObserver = std::function<void(std::string_view method, absl::StatusCode code,
                                        std::chrono::nanoseconds latency)>;

}  // namespace sma::service
