// SPDX-License-Identifier: Apache-2.0

// Implements nvmf_subsystem_allow_any_host, nvmf_subsystem_add_host and nvmf_subsystem_remove_host.

#include "storage_target/rpc/nvmf/nvmf_format.h"
#include "storage_target/rpc/nvmf/nvmf_rpc.h"

namespace sma::storage_target::rpc {
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
      DecodeRelaxed(params, {Required("nqn", &nqn), Required("host", &host), TargetNameField(&name),
                             Optional("psk", &psk), Optional("dhchap_key", &dhchap_key),
                             Optional("dhchap_ctrlr_key", &dhchap_ctrlr_key)});
  if (!decoded) return InvalidParams();
  // A host that is required to authenticate must not be allowed without authentication.
  if (psk) return NotSupported("psk");
  if (dhchap_key) return NotSupported("dhchap_key");
  if (dhchap_ctrlr_key) return NotSupported("dhchap_ctrlr_key");
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

}  // namespace sma::storage_target::rpc
