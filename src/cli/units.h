#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace sma::cli {

/// A count: "5000", "5k", "1.5M", "2G", decimal steps of 1000, exact. INVALID_ARGUMENT for anything
/// else, and for what is no whole number or does not fit 64 bits.
absl::StatusOr<uint64_t> ParseCount(std::string_view text);

/// A number of bytes: "4096", "64K", "200M", "1.5G", "2T", in steps of 1024; "KiB", "MiB" and so on
/// mean the same. Errors as ParseCount.
absl::StatusOr<uint64_t> ParseBytes(std::string_view text);

/// A plain number of up to 32 bits, in decimal digits. INVALID_ARGUMENT for anything else.
absl::StatusOr<uint32_t> ParseUint32(std::string_view text);

/// A time: "500ms", "10s", "1.5m"; without unit, seconds. INVALID_ARGUMENT for anything else and
/// for 0.
absl::StatusOr<std::chrono::milliseconds> ParseDuration(std::string_view text);

}  // namespace sma::cli
