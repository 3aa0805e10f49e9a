// nvmf_subsystem_add_listener, nvmf_subsystem_remove_listener, nvmf_subsystem_get_listeners.

#include "target/rpc/nvmf_format.h"
#include "target/rpc/nvmf_rpc.h"

namespace sma::target::rpc {
namespace {

RpcResult AddListener(nvmf::Target& target, const Json& params) {
  std::string nqn;
  AddressParam address;
  TargetName name;
  bool secure_channel = false;
  bool decoded =
      Decode(params, {Required("nqn", &nqn), Required("listen_address", &address),
                      TargetNameField(&name), Optional("secure_channel", &secure_channel),
                      Ignored("ana_state"), Ignored("sock_impl"), Ignored("numa_id")});
  if (!decoded || secure_channel) return InvalidParams();
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

}  // namespace sma::target::rpc
