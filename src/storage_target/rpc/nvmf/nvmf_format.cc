// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/nvmf/nvmf_format.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/hex.h"
#include "base/ip_address.h"

namespace sma::storage_target::rpc {
namespace {

using nvme::AddressFamily;

const char* FamilyName(AddressFamily family) {
  switch (family) {
    case AddressFamily::kIpv4:
      return "IPv4";
    case AddressFamily::kIpv6:
      return "IPv6";
    case AddressFamily::kInfiniBand:
      return "IB";
    case AddressFamily::kFibreChannel:
      return "FC";
    default:
      return "unknown";
  }
}

std::optional<AddressFamily> ParseFamily(const std::string& text) {
  for (AddressFamily family : {AddressFamily::kIpv4, AddressFamily::kIpv6,
                               AddressFamily::kInfiniBand, AddressFamily::kFibreChannel}) {
    if (absl::AsciiStrToLower(text) == absl::AsciiStrToLower(FamilyName(family))) return family;
  }
  return std::nullopt;
}

AddressFamily FamilyOf(const std::string& address) {
  auto ip = base::IpAddress::Parse(address);
  if (!ip) return AddressFamily::kNone;
  return ip->is_v6() ? AddressFamily::kIpv6 : AddressFamily::kIpv4;
}

}  // namespace

Json FormatAddress(const nvmf::TransportAddress& address) {
  return {{"trtype", address.type},
          {"adrfam", FamilyName(address.family)},
          {"traddr", address.address},
          {"trsvcid", address.service_id}};
}

Json FormatAddressParams(const nvmf::TransportAddress& address) {
  Json params = FormatAddress(address);
  if (address.family == AddressFamily::kNone) params.erase("adrfam");
  if (address.service_id.empty()) params.erase("trsvcid");
  return params;
}

bool FromJson(const Json& value, AddressParam* out) {
  std::string type;
  std::optional<std::string> family;
  bool decoded =
      Decode(value, {Required("trtype", &type), Optional("adrfam", &family),
                     Required("traddr", &out->address), Optional("trsvcid", &out->service_id)});
  if (!decoded) return false;
  out->type = absl::AsciiStrToUpper(type);
  out->family = FamilyOf(out->address);
  if (!family || family->empty()) return true;
  auto named = ParseFamily(*family);
  if (named) out->family = *named;
  return named.has_value();
}

std::string FormatHex(std::string_view bytes) {
  return absl::AsciiStrToUpper(base::HexEncode(bytes));
}

RpcError NoSuchTarget() { return InternalError("Unable to find a target."); }

RpcError NoSuchSubsystem(std::string_view nqn) {
  return InvalidParams("Subsystem with NQN '" + std::string(nqn) + "' not found");
}

RpcResult WithSubsystem(nvmf::Target& target, const TargetName& name, const std::string& nqn,
                        const std::function<RpcResult(nvmf::Subsystem&)>& act) {
  if (!name.is_ours()) return NoSuchTarget();
  nvmf::Subsystem* subsystem = target.FindSubsystem(nqn);
  if (subsystem == nullptr) return NoSuchSubsystem(nqn);
  return act(*subsystem);
}

void WithSubsystemAsync(nvmf::Target& target, const TargetName& name, const std::string& nqn,
                        const Reply& reply, RpcError on_error,
                        const std::function<int(nvmf::Subsystem&)>& act) {
  if (!name.is_ours()) return reply(NoSuchTarget());
  nvmf::Subsystem* subsystem = target.FindSubsystem(nqn);
  if (subsystem == nullptr) return reply(NoSuchSubsystem(nqn));
  if (act(*subsystem) != 0) reply(std::move(on_error));
}

}  // namespace sma::storage_target::rpc
