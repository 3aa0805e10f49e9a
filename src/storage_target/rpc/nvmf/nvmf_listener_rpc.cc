// SPDX-License-Identifier: Apache-2.0

// Implements nvmf_subsystem_add_listener, nvmf_subsystem_remove_listener and
// nvmf_subsystem_get_listeners.

#include "storage_target/rpc/nvmf/nvmf_format.h"
#include "storage_target/rpc/nvmf/nvmf_rpc.h"

namespace sma::storage_target::rpc {
namespace {

// The states that can be set, which are only some of those in NVMe Base 2.0, figure 286.
enum class AnaState { kOptimized, kNonOptimized, kInaccessible };
bool FromJson(const Json& value, AnaState* out) {
  if (value == "optimized") {
    *out = AnaState::kOptimized;
  } else if (value == "non_optimized") {
    *out = AnaState::kNonOptimized;
  } else if (value == "inaccessible") {
    *out = AnaState::kInaccessible;
  } else {
    return false;
  }
  return true;
}

RpcResult AddListener(nvmf::Target& target, const Json& params) {
  std::string nqn;
  AddressParam address;
  TargetName name;
  bool secure_channel = false;
  AnaState ana_state = AnaState::kOptimized;
  bool decoded = DecodeRelaxed(
      params, {Required("nqn", &nqn), Required("listen_address", &address), TargetNameField(&name),
               Optional("secure_channel", &secure_channel), Optional("ana_state", &ana_state),
               Ignored("sock_impl"), Ignored("numa_id")});
  if (!decoded) return InvalidParams();
  if (secure_channel) return NotSupported("secure_channel");
  if (ana_state != AnaState::kOptimized) return NotSupported("ana_state");
  return WithSubsystem(target, name, nqn, [&](nvmf::Subsystem& subsystem) -> RpcResult {
    nvmf::Transport* transport = target.FindTransport(address.type);
    if (transport == nullptr || subsystem.AddListener(*transport, address) != 0)
      return InvalidParams();
    return Json(true);
  });
}

void RemoveListener(nvmf::Target& target, const Json& params, const Reply& reply) {
  std::string nqn;
  AddressParam address;
  TargetName name;
  bool decoded = Decode(params, {Required("nqn", &nqn), Required("listen_address", &address),
                                 TargetNameField(&name)});
  if (!decoded) return reply(InvalidParams());
  WithSubsystemAsync(target, name, nqn, reply, InvalidParams(), [&](nvmf::Subsystem& subsystem) {
    return subsystem.RemoveListener(address, [reply] { reply(Json(true)); });
  });
}

RpcResult GetListeners(nvmf::Target& target, const Json& params) {
  std::string nqn;
  TargetName name;
  if (!Decode(params, {Required("nqn", &nqn), TargetNameField(&name)})) return InvalidParams();
  return WithSubsystem(target, name, nqn, [](nvmf::Subsystem& subsystem) {
    Json list = Json::array();
    for (const auto& listener : subsystem.listeners()) {
      list.push_back({{"address", FormatAddress(listener.address)}});
    }
    return list;
  });
}

}  // namespace

void RegisterNvmfListenerRpc(RpcServer& server, nvmf::Target& target) {
  server.Register("nvmf_subsystem_add_listener",
                  [&target](const Json& params) { return AddListener(target, params); });
  server.RegisterAsync(
      "nvmf_subsystem_remove_listener",
      [&target](const Json& params, const Reply& reply) { RemoveListener(target, params, reply); });
  server.Register("nvmf_subsystem_get_listeners",
                  [&target](const Json& params) { return GetListeners(target, params); });
}

}  // namespace sma::storage_target::rpc
