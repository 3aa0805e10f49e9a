// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/app/framework_rpc.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "base/version.h"
#include "storage_target/rpc/params.h"

namespace sma::storage_target::rpc {
namespace {

RpcResult GetVersion(const Json& params) {
  if (!Decode(params, {})) return DecodeError();
  base::Version version = base::GetVersion();
  return Json{{"version", std::string("sma-target ") + version.text},
              {"fields",
               {{"major", version.major_number},
                {"minor", version.minor_number},
                {"patch", version.patch_number},
                {"suffix", ""}}}};
}

RpcResult GetMethods(const RpcServer& server, const Json& params) {
  bool current = false;
  bool aliases = false;
  bool parameters = false;
  if (!Decode(params, {Optional("current", &current), Optional("include_aliases", &aliases),
                       Optional("include_parameters", &parameters)})) {
    return DecodeError();
  }
  if (!parameters) return Json(server.methods(current));
  Json list = Json::object();
  for (const std::string& method : server.methods(current)) {
    const RpcServer::Parameters of_method = server.ParametersOf(method);
    list[method] = {{"parameters", Json::object()}, {"relaxed", of_method.is_relaxed}};
    for (const auto& [name, required] : of_method.required) {
      list[method]["parameters"][name] = {{"required", required}};
    }
  }
  return list;
}

RpcResult GetSubsystems(const RpcServer& server, const Json& params) {
  if (!Decode(params, {})) return DecodeError();
  Json list = Json::array();
  for (const RpcServer::Subsystem& subsystem : server.subsystems()) {
    list.push_back({{"subsystem", subsystem.name}, {"depends_on", subsystem.depends_on}});
  }
  return list;
}

RpcResult GetConfig(const RpcServer& server, const Json& params) {
  std::string name;
  if (!Decode(params, {Required("name", &name), Ignored("with_batches")})) return DecodeError();
  for (const RpcServer::Subsystem& subsystem : server.subsystems()) {
    if (subsystem.name == name) return subsystem.save();
  }
  return InvalidParams("Subsystem '" + name + "' not found");
}

RpcResult KillInstance(const Json& params) {
  static constexpr std::array<std::pair<const char*, int>, 6> kSignals = {{{"SIGINT", SIGINT},
                                                                           {"SIGTERM", SIGTERM},
                                                                           {"SIGQUIT", SIGQUIT},
                                                                           {"SIGHUP", SIGHUP},
                                                                           {"SIGKILL", SIGKILL},
                                                                           {"SIGUSR1", SIGUSR1}}};
  std::string name;
  if (!Decode(params, {Required("sig_name", &name)})) return DecodeError();
  const auto* found = std::find_if(kSignals.begin(), kSignals.end(),
                                   [&](const auto& signal) { return name == signal.first; });
  if (found == kSignals.end()) return InvalidParams();
  ::kill(::getpid(), found->second);
  return Json(true);
}

}  // namespace

void FrameworkInit::Finish() {
  server_.set_phase(Phase::kRuntime);
  for (const Reply& reply : std::exchange(waiting_, {})) reply(Json(true));
}

void FrameworkInit::Wait(Reply reply) {
  if (server_.phase() == Phase::kRuntime) return reply(Json(true));
  waiting_.push_back(std::move(reply));
}

void FrameworkInit::Start(const Reply& reply) {
  if (start_) return std::exchange(start_, nullptr)([reply] { reply(Json(true)); });
  // The initialization has been started but is not finished.
  Wait(reply);
}

void RegisterFrameworkRpc(RpcServer& server, FrameworkInit& init) {
  server.Register("spdk_get_version", GetVersion, Phase::kAny);
  server.Register(
      "rpc_get_methods", [&](const Json& params) { return GetMethods(server, params); },
      Phase::kAny);
  server.Register("spdk_kill_instance", KillInstance, Phase::kAny);
  server.Register("framework_get_subsystems",
                  [&](const Json& params) { return GetSubsystems(server, params); });
  server.Register("framework_get_config",
                  [&](const Json& params) { return GetConfig(server, params); });
  server.RegisterAsync(
      "framework_wait_init",
      [&](const Json& params, const Reply& reply) {
        if (!Decode(params, {})) return reply(DecodeError());
        init.Wait(reply);
      },
      Phase::kAny);
  server.RegisterAsync(
      "framework_start_init",
      [&](const Json& params, const Reply& reply) {
        if (!Decode(params, {})) return reply(DecodeError());
        init.Start(reply);
      },
      Phase::kStartup);
}

}  // namespace sma::storage_target::rpc
