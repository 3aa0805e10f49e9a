// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "base/log.h"
#include "storage_target/rpc/app/framework_rpc.h"
#include "storage_target/rpc/params.h"

namespace sma::storage_target::rpc {
namespace {

struct Level {
  const char* name;  // SPDK's name
  spdlog::level::level_enum level;
};
constexpr std::array<Level, 6> kLevels = {{{"DISABLED", spdlog::level::off},
                                           {"ERROR", spdlog::level::err},
                                           {"WARNING", spdlog::level::warn},
                                           {"NOTICE", spdlog::level::info},
                                           {"INFO", spdlog::level::debug},
                                           {"DEBUG", spdlog::level::trace}}};

const Level* FindLevel(const std::string& name) {
  const auto* found = std::find_if(kLevels.begin(), kLevels.end(),
                                   [&](const Level& level) { return name == level.name; });
  return found == kLevels.end() ? nullptr : found;
}

RpcResult GetPrintLevel(const Json& params) {
  if (!Decode(params, {})) return DecodeError();
  auto present = spdlog::default_logger()->level();
  for (const Level& level : kLevels) {
    if (level.level == present) return Json(level.name);
  }
  return Json("ERROR");  // critical messages only
}

RpcResult SetPrintLevel(const Json& params) {
  std::string name;
  if (!Decode(params, {Required("level", &name)})) return DecodeError();
  const Level* level = FindLevel(name);
  if (level == nullptr) return InvalidParams("invalid log level");
  spdlog::default_logger()->set_level(level->level);
  return Json(true);
}

RpcResult EnableTimestamps(const Json& params) {
  bool enabled = true;
  if (!Decode(params, {Required("enabled", &enabled)})) return DecodeError();
  base::SetLogTimestamps(enabled);
  return Json(true);
}

}  // namespace

void RegisterLogRpc(RpcServer& server) {
  server.Register("log_get_print_level", GetPrintLevel, Phase::kAny);
  server.Register("log_set_print_level", SetPrintLevel, Phase::kAny);
  // SPDK's second level is that of the system log. This target has only one log, so both methods
  // set the same level.
  server.Register("log_get_level", GetPrintLevel, Phase::kAny);
  server.Register("log_set_level", SetPrintLevel, Phase::kAny);
  server.Register("log_enable_timestamps", EnableTimestamps, Phase::kAny);
}

}  // namespace sma::storage_target::rpc
