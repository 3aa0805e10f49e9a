#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <memory>
#include <string>

#include "absl/strings/ascii.h"

namespace sma::base {

void InitLog(std::string_view program, std::string_view level) {
  auto logger = spdlog::stderr_color_mt(std::string(program));
  std::string name = absl::AsciiStrToLower({level.data(), level.size()});
  if (name == "warn") name = "warning";
  spdlog::level::level_enum parsed = spdlog::level::from_str(name);
  if (parsed == spdlog::level::off && name != "off") parsed = spdlog::level::info;
  logger->set_level(parsed);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  SetLogTimestamps(true);
}

void SetLogTimestamps(bool enabled) {
  const char* pattern = enabled ? "%Y-%m-%dT%H:%M:%S.%fZ %^%l%$ %n: %v" : "%^%l%$ %n: %v";
  spdlog::set_pattern(pattern, spdlog::pattern_time_type::utc);
}

}  // namespace sma::base
