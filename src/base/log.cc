// SPDX-License-Identifier: Apache-2.0

#include "base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <memory>
#include <string>

#include "absl/strings/ascii.h"
#include "base/printable.h"

namespace sma::base {
namespace {

/// Implements the format flag %*, which is like %v but prints the message on one line of printable
/// characters.
class PrintableMessage final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& line) override {
    AppendPrintable({message.payload.data(), message.payload.size()}, line);
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<PrintableMessage>();
  }
};

}  // namespace

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
  const char* pattern = enabled ? "%Y-%m-%dT%H:%M:%S.%fZ %^%l%$ %n: %*" : "%^%l%$ %n: %*";
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<PrintableMessage>('*').set_pattern(pattern);
  spdlog::set_formatter(std::move(formatter));
}

}  // namespace sma::base
