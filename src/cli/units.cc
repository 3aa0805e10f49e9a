// SPDX-License-Identifier: Apache-2.0

#include "cli/units.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <optional>
#include <span>
#include <string>

namespace sma::cli {
namespace {

using Wide = unsigned __int128;

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr Unit kCountUnits[] = {
    {"", 1}, {"k", 1000}, {"K", 1000}, {"M", 1'000'000}, {"G", 1'000'000'000}};
constexpr Unit kByteUnits[] = {{"", 1},
                               {"K", 1ULL << 10},
                               {"M", 1ULL << 20},
                               {"G", 1ULL << 30},
                               {"T", 1ULL << 40},
                               {"KiB", 1ULL << 10},
                               {"MiB", 1ULL << 20},
                               {"GiB", 1ULL << 30},
                               {"TiB", 1ULL << 40}};
constexpr Unit kTimeUnits[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60'000}};

// A decimal number with the value digits / scale.
struct Decimal {
  uint64_t digits = 0;
  uint64_t scale = 1;  // 10^decimals
};

std::optional<Decimal> ParseDecimal(std::string_view text) {
  const size_t point = text.find('.');
  std::string digits(text.substr(0, point));
  Decimal decimal;
  if (point != std::string_view::npos) {
    const std::string_view decimals = text.substr(point + 1);
    if (decimals.empty() || decimals.size() > 9) return std::nullopt;
    digits += decimals;
    for (size_t i = 0; i < decimals.size(); ++i) decimal.scale *= 10;
  }
  if (point == 0 || digits.empty()) return std::nullopt;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), decimal.digits);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return decimal;
}

absl::StatusOr<uint64_t> Parse(std::string_view text, std::span<const Unit> units,
                               std::string_view examples) {
  const size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
  std::optional<Decimal> number = ParseDecimal(text.substr(0, end));
  const Unit* unit = nullptr;
  for (const Unit& candidate : units) {
    if (candidate.name == text.substr(end)) unit = &candidate;
  }
  if (!number || unit == nullptr) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is invalid; an example is {}", text, examples));
  }
  const Wide product = Wide{number->digits} * unit->factor;
  if (product % number->scale != 0) {
    return absl::InvalidArgumentError(fmt::format("'{}' is not a whole number", text));
  }
  const Wide value = product / number->scale;
  if (value > std::numeric_limits<uint64_t>::max()) {
    return absl::InvalidArgumentError(fmt::format("'{}' is too large", text));
  }
  return static_cast<uint64_t>(value);
}

}  // namespace

absl::StatusOr<uint64_t> ParseCount(std::string_view text) {
  return Parse(text, kCountUnits, "5000, 5k or 1.5M");
}

absl::StatusOr<uint64_t> ParseBytes(std::string_view text) {
  return Parse(text, kByteUnits, "1048576, 200M or 1.5G");
}

absl::StatusOr<uint32_t> ParseUint32(std::string_view text) {
  uint32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return absl::InvalidArgumentError(fmt::format("'{}' is not a number from 0 to {}", text,
                                                  std::numeric_limits<uint32_t>::max()));
  }
  return value;
}

absl::StatusOr<std::chrono::milliseconds> ParseDuration(std::string_view text) {
  absl::StatusOr<uint64_t> ms = Parse(text, kTimeUnits, "10s, 500ms or 2m");
  if (!ms.ok()) return ms.status();
  constexpr uint64_t kMaxMs = 365ULL * 24 * 3600 * 1000;
  if (*ms == 0 || *ms > kMaxMs) {
    return absl::InvalidArgumentError(fmt::format("'{}' is not between 1 ms and one year", text));
  }
  return std::chrono::milliseconds(*ms);
}

}  // namespace sma::cli
