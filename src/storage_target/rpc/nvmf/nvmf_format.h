// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <optional>
#include <string>

#include "storage_target/nvmf/target.h"
#include "storage_target/rpc/params.h"
#include "storage_target/rpc/rpc_result.h"
#include "storage_target/rpc/rpc_server.h"

namespace sma::storage_target::rpc {

/// Formats an address as SPDK does: {"trtype", "adrfam", "traddr", "trsvcid"}.
Json FormatAddress(const nvmf::TransportAddress& address);
/// Formats an address as parameters of the methods.
Json FormatAddressParams(const nvmf::TransportAddress& address);

/// An address in parameters: trtype and traddr are required; adrfam, in either case, is derived
/// from the address if omitted.
struct AddressParam : nvmf::TransportAddress {};
bool FromJson(const Json& value, AddressParam* out);

/// Formats a namespace identifier as NVMe tools do, with upper-case hex digits.
std::string FormatHex(std::string_view bytes);

/// The parameter tgt_name. There is only one target; it has SPDK's default name.
struct TargetName {
  std::optional<std::string> name;
  bool is_ours() const { return !name || *name == "nvmf_tgt"; }
};
inline bool FromJson(const Json& value, TargetName* out) { return FromJson(value, &out->name); }
inline Field TargetNameField(TargetName* out) { return Optional("tgt_name", out); }
RpcError NoSuchTarget();

RpcError NoSuchSubsystem(std::string_view nqn);
/// Calls `act` with the subsystem that the parameters name; returns an error if there is none.
RpcResult WithSubsystem(nvmf::Target& target, const TargetName& name, const std::string& nqn,
                        const std::function<RpcResult(nvmf::Subsystem&)>& act);
/// Like WithSubsystem, for a method with an asynchronous reply: if `act` returns 0, it sends
/// `reply` itself; otherwise the reply is `on_error`.
void WithSubsystemAsync(nvmf::Target& target, const TargetName& name, const std::string& nqn,
                        const Reply& reply, RpcError on_error,
                        const std::function<int(nvmf::Subsystem&)>& act);

}  // namespace sma::storage_target::rpc
