// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace sma::cli {

/// Parses a count: "5000", "5k", "1.5M", "2G", with units in steps of 1000. Returns
/// INVALID_ARGUMENT for anything else, and if the value is not a whole number or does not fit into
/// 64 bits.
absl::StatusOr<uint64_t> ParseCount(std::string_view text);

/// Parses a number of bytes: "4096", "64K", "200M", "1.5G", "2T", with units in steps of 1024;
/// "KiB", "MiB" and so on mean the same. Returns the same errors as ParseCount.
absl::StatusOr<uint64_t> ParseBytes(std::string_view text);

/// Parses a decimal number of up to 32 bits. Returns INVALID_ARGUMENT for anything else.
absl::StatusOr<uint32_t> ParseUint32(std::string_view text);

/// Parses a duration: "500ms", "10s", "1.5m"; a number without a unit means seconds. Returns
/// INVALID_ARGUMENT for anything else and for 0.
absl::StatusOr<std::chrono::milliseconds> ParseDuration(std::string_view text);

}  // namespace sma::cli
