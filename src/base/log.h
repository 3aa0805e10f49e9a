#pragma once

#include <spdlog/spdlog.h>

#include <string_view>

namespace sma::base {

/// Sends log lines to standard error, each with time (UTC, microseconds), level and `program`. Call
/// once, before other threads start. `level`: trace, debug, info, warning, error, critical or off,
/// in either case; anything else means info. Log through spdlog's own functions (`spdlog::info("{}
/// opened", name)`): control characters and bytes that are not UTF-8 are escaped here (see
/// AppendPrintable), so names that clients choose may be logged as they are.
void InitLog(std::string_view program, std::string_view level);

/// Whether log lines begin with the time; they do at first. Any time after InitLog.
void SetLogTimestamps(bool enabled);

}  // namespace sma::base
