#pragma once

#include <chrono>
#include <functional>
#include <string_view>

#include "absl/status/status.h"

namespace sma::service {

/// Told of each unary call that ended: method, code, time since it came. Called from many threads
/// at once.
using CallObserver = std::function<void(std::string_view method, absl::StatusCode code,
                                        std::chrono::nanoseconds latency)>;

}  // namespace sma::service
