// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <string_view>

namespace sma::base {

/// The maximum size of a qualified name in bytes, without the terminating NUL of the wire format
/// (NVMe Base 2.0 §4.5).
inline constexpr size_t kMaxNqnSize = 223;

/// Returns true for an NVMe Qualified Name: UTF-8 without control characters, 11 to 223 bytes,
/// either "nqn.yyyy-mm.<reverse domain>[:<text>]" with a month of 01 to 12, or
/// "nqn.2014-08.org.nvmexpress:uuid:<a UUID>" (NVMe Base 2.0 §4.5).
bool IsValidNqn(std::string_view nqn);

}  // namespace sma::base
