#pragma once

#include <functional>
#include <optional>
#include <string>

#include "target/nvmf/target.h"
#include "target/rpc/params.h"
#include "target/rpc/rpc_result.h"
#include "target/rpc/rpc_server.h"

namespace sma::target::rpc {

/// {"trtype", "adrfam", "traddr", "trsvcid"} as SPDK shows an address.
Json FormatAddress(const nvmf::TransportAddress& address);
/// The same to make the address again: what the methods take.
Json FormatAddressParams(const nvmf::TransportAddress& address);

/// An address in parameters: trtype and traddr are needed; adrfam, in either case, follows from the
/// address without.
struct AddressParam : nvmf::TransportAddress {};
bool FromJson(const Json& value, AddressParam* out);

/// A namespace identifier as NVMe's tools write it: upper-case hex digits.
std::string FormatHex(std::string_view bytes);

/// The parameter tgt_name: there is one target, with SPDK's name for it.
struct TargetName {
  std::optional<std::string> name;
  bool is_ours() const { return !name || *name == "nvmf_tgt"; }
};
inline bool FromJson(const Json& value, TargetName* out) { return FromJson(value, &out->name); }
inline Field TargetNameField(TargetName* out) { return Optional("tgt_name", out); }
RpcError NoSuchTarget();

RpcError NoSuchSubsystem(std::string_view nqn);
/// Calls `act` with the subsystem that the parameters name; else the error.
RpcResult WithSubsystem(nvmf::Target& target, const TargetName& name, const std::string& nqn,
                        const std::function<RpcResult(nvmf::Subsystem&)>& act);
/// The same for a method that answers later: `act` has taken `reply` over when it returns 0; an
/// error of its becomes `on_error`.
void WithSubsystemAsync(nvmf::Target& target, const TargetName& name, const std::string& nqn,
                        const Reply& reply, RpcError on_error,
                        const std::function<int(nvmf::Subsystem&)>& act);

}  // namespace sma::target::rpc
