#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sma::base {

/// Two lower-case hex digits for each byte.
std::string HexEncode(std::string_view bytes);

/// The bytes that hex digits of either case stand for; nullopt for an odd length or any other
/// character.
std::optional<std::string> HexDecode(std::string_view digits);

}  // namespace sma::base
