// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sma::base {

/// Returns two lower-case hexadecimal digits for each byte.
std::string HexEncode(std::string_view bytes);

/// Decodes hexadecimal digits of either case; returns nullopt for an odd length or any other
/// character.
std::optional<std::string> HexDecode(std::string_view digits);

}  // namespace sma::base
