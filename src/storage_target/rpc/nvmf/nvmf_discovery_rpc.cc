// SPDX-License-Identifier: Apache-2.0

// Implements nvmf_discovery_add_referral, nvmf_discovery_remove_referral and
// nvmf_discovery_get_referrals.

#include "base/nqn.h"
#include "storage_target/rpc/nvmf/nvmf_format.h"
#include "storage_target/rpc/nvmf/nvmf_rpc.h"

namespace sma::storage_target::rpc {
namespace {

using Decoder = bool(const Json& params, std::initializer_list<Field> fields);

bool DecodeReferral(const Json& params, Decoder* decode, nvmf::Referral* out, TargetName* name) {
  AddressParam address;
  bool decoded =
      decode(params, {Required("address", &address), Optional("subnqn", &out->subsystem_nqn),
                      Optional("secure_channel", &out->secure_channel), TargetNameField(name)});
  out->address = address;
  return decoded && base::IsValidNqn(out->subsystem_nqn);
}

RpcResult Add(nvmf::Target& target, const Json& params) {
  nvmf::Referral referral;
  TargetName name;
  if (!DecodeReferral(params, &DecodeRelaxed, &referral, &name)) return InvalidParams();
  if (!name.is_ours()) return NoSuchTarget();
  if (referral.address.service_id.empty()) return InternalError("Service ID is required.");
  const int error = target.AddReferral(referral);
  // As in SPDK, adding a referral that already exists succeeds.
  if (error != 0 && error != EEXIST) return InternalError();
  return Json(true);
}

RpcResult Remove(nvmf::Target& target, const Json& params) {
  nvmf::Referral referral;
  TargetName name;
  if (!DecodeReferral(params, &Decode, &referral, &name)) return InvalidParams();
  if (!name.is_ours()) return NoSuchTarget();
  if (target.RemoveReferral(referral) != 0) return InternalError();
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
  server.Register("nvmf_discovery_add_referral",
                  [&target](const Json& params) { return Add(target, params); });
  server.Register("nvmf_discovery_remove_referral",
                  [&target](const Json& params) { return Remove(target, params); });
  server.Register("nvmf_discovery_get_referrals",
                  [&target](const Json& params) { return GetReferrals(target, params); });
}

}  // namespace sma::storage_target::rpc
