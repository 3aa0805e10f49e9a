// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <spdlog/spdlog.h>

#include <string_view>

namespace sma::base {

/// Makes spdlog write log lines to standard error, each with the time (UTC, in microseconds), the
/// level and `program`. Call once, before other threads start. `level` is trace, debug, info,
/// warning, error, critical or off, in upper or lower case; anything else means info. Use spdlog's
/// functions to log (`spdlog::info("{}: opened", name)`). Control characters and bytes that are not
/// UTF-8 are escaped (see AppendPrintable), so names that clients choose can be logged safely.
void InitLog(std::string_view program, std::string_view level);

/// Turns the time in log lines on or off; it is on after InitLog. Call after InitLog.
void SetLogTimestamps(bool enabled);

}  // namespace sma::base
