// nvmf_subsystem_allow_any_host, nvmf_subsystem_add_host, nvmf_subsystem_remove_host.

#include "target/rpc/nvmf_format.h"
#include "target/rpc/nvmf_rpc.h"

namespace sma::target::rpc {
namespace {

RpcResult AllowAnyHost(nvmf::Target& target, const Json& params) {
  std::string nqn;
  bool allow = false;
  TargetName name;
  bool decoded = Decode(
      params, {Required("nqn", &nqn), Required("allow_any_host", &allow), TargetNameField(&name)});
  if (!decoded) return InvalidParams();
  return WithSubsystem(target, name, nqn, [&](nvmf::Subsystem& subsystem) {
    subsystem.set_allow_any_host(allow);
    return Json(true);
  });
}

RpcResult AddHost(nvmf::Target& target, const Json& params) {
  std::string nqn, host;
  TargetName name;
  std::optional<std::string> psk, dhchap_key, dhchap_ctrlr_key;
  bool decoded =
      Decode(params, {Required("nqn", &nqn), Required("host", &host), TargetNameField(&name),
                      Optional("psk", &psk), Optional("dhchap_key", &dhchap_key),
                      Optional("dhchap_ctrlr_key", &dhchap_ctrlr_key)});
  // A host that has to prove who it is must not get in without.
  if (!decoded || psk || dhchap_key || dhchap_ctrlr_key) return InvalidParams();
  return WithSubsystem(target, name, nqn, [&](nvmf::Subsystem& subsystem) -> RpcResult {
    if (subsystem.AddHost(host) != 0) return InternalError();
    return Json(true);
  });
}

void RemoveHost(nvmf::Target& target, const Json& params, const Reply& reply) {
  std::string nqn, host;
  TargetName name;
  bool decoded = Decode(params, {Required("nqn", &nqn), Required("host", &host),
                                 TargetNameField(&name), Ignored("timeout_ms")});
  if (!decoded) return reply(InvalidParams());
  WithSubsystemAsync(target, name, nqn, reply, InternalError(), [&](nvmf::Subsystem& subsystem) {
    return subsystem.RemoveHost(host, [reply] { reply(Json(true)); });
  });
}

}  // namespace

void RegisterNvmfHostRpc(RpcServer& server, nvmf::Target& target) {
  server.Register("nvmf_subsystem_allow_any_host",
                  [&target](const Json& params) { return AllowAnyHost(target, params); });
  server.Register("nvmf_subsystem_add_host",
                  [&target](const Json& params) { return AddHost(target, params); });
  server.RegisterAsync(
      "nvmf_subsystem_remove_host",
      [&target](const Json& params, const Reply& reply) { RemoveHost(target, params, reply); });
}

}  // namespace sma::target::rpc
