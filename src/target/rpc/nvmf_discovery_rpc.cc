// nvmf_discovery_add_referral, nvmf_discovery_remove_referral, nvmf_discovery_get_referrals.

#include "base/nqn.h"
#include "target/rpc/nvmf_format.h"
#include "target/rpc/nvmf_rpc.h"

namespace sma::target::rpc {
namespace {

bool DecodeReferral(const Json& params, nvmf::Referral* out, TargetName* name) {
  AddressParam address;
  bool decoded =
      Decode(params, {Required("address", &address), Optional("subnqn", &out->subsystem_nqn),
                      Optional("secure_channel", &out->secure_channel), TargetNameField(name)});
  out->address = address;
  return decoded && base::IsValidNqn(out->subsystem_nqn);
}

RpcResult Change(nvmf::Target& target, const Json& params,
                 int (nvmf::Target::*change)(const nvmf::Referral&)) {
  nvmf::Referral referral;
  TargetName name;
  if (!DecodeReferral(params, &referral, &name)) return InvalidParams();
  if (!name.is_ours()) return NoSuchTarget();
  if ((target.*change)(referral) != 0) return InternalError();
  return Json(true);
}

RpcResult GetReferrals(nvmf::Target& target, const Json& params) {
  TargetName name;
  if (!Decode(params, {TargetNameField(&name)})) return InvalidParams();
  if (!name.is_ours()) return NoSuchTarget();
  Json list = Json::array();
  for (const nvmf::Referral& referral : target.referrals()) {
    list.push_back({{"address", FormatAddress(referral.address)},
                    {"secure_channel", referral.secure_channel},
                    {"subnqn", referral.subsystem_nqn}});
  }
  return list;
}

}  // namespace

void RegisterNvmfDiscoveryRpc(RpcServer& server, nvmf::Target& target) {
  server.Register("nvmf_discovery_add_referral", [&target](const Json& params) {
    return Change(target, params, &nvmf::Target::AddReferral);
  });
  server.Register("nvmf_discovery_remove_referral", [&target](const Json& params) {
    return Change(target, params, &nvmf::Target::RemoveReferral);
  });
  server.Register("nvmf_discovery_get_referrals",
                  [&target](const Json& params) { return GetReferrals(target, params); });
}

}  // namespace sma::target::rpc
