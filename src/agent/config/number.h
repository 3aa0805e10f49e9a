#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace sma::config {

/// The decimal number that the whole of `text` is; nullopt where it is none or does not fit T.
template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  T number{};
  const char* end = text.data() + text.size();
  auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

}  // namespace sma::config
