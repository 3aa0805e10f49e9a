// SPDX-License-Identifier: Apache-2.0

#include "agent/spdk/nvmf.h"

#include <cerrno>
#include <utility>

#include "agent/spdk/call.h"
#include "agent/spdk/json_read.h"
#include "base/ip_address.h"
#include "base/strings.h"
#include "jsonrpc/error.h"

namespace sma::spdk {
namespace {

using jsonrpc::Json;
using jsonrpc::Request;

constexpr char kGetSubsystems[] = "nvmf_get_subsystems";

bool SameOptional(std::string_view a, std::string_view b) {
  return a.empty() || b.empty() || base::EqualsIgnoreCase(a, b);
}

bool SameHost(std::string_view a, std::string_view b) {
  std::optional<base::IpAddress> ip_a = base::IpAddress::Parse(a);
  std::optional<base::IpAddress> ip_b = base::IpAddress::Parse(b);
  return ip_a && ip_b ? ip_a == ip_b : base::EqualsIgnoreCase(a, b);
}

Json FormatAddress(const TransportAddress& address) {
  Json json{{"trtype", address.trtype}, {"traddr", address.traddr}};
  if (!address.adrfam.empty()) json["adrfam"] = address.adrfam;
  if (!address.trsvcid.empty()) json["trsvcid"] = address.trsvcid;
  return json;
}

// 0 and FFFFFFFFh are not valid NSIDs (NVMe Base 2.0 §3.2.1).
std::optional<uint32_t> ValidNsid(std::optional<uint64_t> number) {
  if (!number || *number == 0 || *number >= UINT32_MAX) return std::nullopt;
  return static_cast<uint32_t>(*number);
}

std::optional<Namespace> ParseNamespace(const Json& entry) {
  std::optional<uint32_t> nsid = ValidNsid(UintMember(entry, "nsid"));
  if (!nsid) return std::nullopt;
  return Namespace{.nsid = *nsid,
                   .bdev_name = StringMember(entry, "bdev_name").value_or(""),
                   .uuid = base::Uuid::Parse(StringMember(entry, "uuid").value_or("")),
                   .nguid = base::Uuid::ParseHex(StringMember(entry, "nguid").value_or(""))};
}

std::optional<Subsystem> ParseSubsystemEntry(const Json& entry) {
  std::optional<std::string> nqn = StringMember(entry, "nqn");
  if (!nqn) return std::nullopt;
  Subsystem subsystem{.nqn = *nqn,
                      .is_discovery = StringMember(entry, "subtype").value_or("") != "NVMe",
                      .serial_number = StringMember(entry, "serial_number").value_or(""),
                      .allow_any_host = BoolMember(entry, "allow_any_host").value_or(false)};
  for (const Json* host : ElementsOf(entry, "hosts")) {
    if (auto host_nqn = StringMember(*host, "nqn")) subsystem.hosts.push_back(*host_nqn);
  }
  for (const Json* address : ElementsOf(entry, "listen_addresses")) {
    subsystem.listeners.push_back(ParseAddress(*address));
  }
  for (const Json* item : ElementsOf(entry, "namespaces")) {
    std::optional<Namespace> parsed = ParseNamespace(*item);
    if (!parsed) return std::nullopt;
    subsystem.namespaces.push_back(*std::move(parsed));
  }
  subsystem.max_namespaces = static_cast<uint32_t>(UintMember(entry, "max_namespaces").value_or(0));
  return subsystem;
}

}  // namespace

TransportAddress ParseAddress(const Json& address) {
  return {.trtype = StringMember(address, "trtype").value_or(""),
          .adrfam = StringMember(address, "adrfam").value_or(""),
          .traddr = StringMember(address, "traddr").value_or(""),
          .trsvcid = StringMember(address, "trsvcid").value_or("")};
}

bool SameAddress(const TransportAddress& a, const TransportAddress& b) {
  return base::EqualsIgnoreCase(a.trtype, b.trtype) && SameOptional(a.adrfam, b.adrfam) &&
         SameHost(a.traddr, b.traddr) && SameOptional(a.trsvcid, b.trsvcid);
}

Request CreateTransport(std::string_view trtype, const Json& options) {
  Json params{{"trtype", trtype}};
  if (options.is_object()) params.update(options);
  return {"nvmf_create_transport", std::move(params)};
}

Request GetSubsystems() { return {kGetSubsystems, nullptr}; }

Request GetSubsystem(std::string_view nqn) { return {kGetSubsystems, {{"nqn", nqn}}}; }

Request CreateSubsystem(std::string_view nqn, bool allow_any_host, std::string_view serial_number) {
  Json params{{"nqn", nqn}, {"allow_any_host", allow_any_host}};
  if (!serial_number.empty()) params["serial_number"] = serial_number;
  return {"nvmf_create_subsystem", std::move(params)};
}

Request DeleteSubsystem(std::string_view nqn) { return {"nvmf_delete_subsystem", {{"nqn", nqn}}}; }

Request AllowAnyHost(std::string_view nqn) {
  return {"nvmf_subsystem_allow_any_host", {{"nqn", nqn}, {"allow_any_host", true}}};
}

Request AddHost(std::string_view nqn, std::string_view host_nqn) {
  return {"nvmf_subsystem_add_host", {{"nqn", nqn}, {"host", host_nqn}}};
}

Request RemoveHost(std::string_view nqn, std::string_view host_nqn) {
  return {"nvmf_subsystem_remove_host", {{"nqn", nqn}, {"host", host_nqn}}};
}

Request AddListener(std::string_view nqn, const TransportAddress& address) {
  return {"nvmf_subsystem_add_listener",
          {{"nqn", nqn}, {"listen_address", FormatAddress(address)}}};
}

Request RemoveListener(std::string_view nqn, const TransportAddress& address) {
  return {"nvmf_subsystem_remove_listener",
          {{"nqn", nqn}, {"listen_address", FormatAddress(address)}}};
}

Request AddNamespace(std::string_view nqn, const Namespace& ns) {
  Json entry{{"bdev_name", ns.bdev_name}};
  if (ns.nsid != 0) entry["nsid"] = ns.nsid;
  if (ns.uuid) entry["uuid"] = ns.uuid->ToString();
  if (ns.nguid) entry["nguid"] = ns.nguid->ToHex();
  return {"nvmf_subsystem_add_ns", {{"nqn", nqn}, {"namespace", std::move(entry)}}};
}

Request RemoveNamespace(std::string_view nqn, uint32_t nsid) {
  return {"nvmf_subsystem_remove_ns", {{"nqn", nqn}, {"nsid", nsid}}};
}

absl::StatusOr<std::vector<Subsystem>> ParseSubsystems(const Json& answer) {
  return ParseArray(answer, kGetSubsystems, ParseSubsystemEntry);
}

absl::StatusOr<std::optional<Subsystem>> ParseSubsystem(const absl::StatusOr<Json>& answer) {
  if (IsNoSuchSubsystem(answer.status())) return std::nullopt;
  if (!answer.ok()) return answer.status();
  return TakeOnly(ParseSubsystems(*answer), kGetSubsystems);
}

absl::StatusOr<uint32_t> ParseNsid(const Json& answer) {
  std::optional<uint32_t> nsid = ValidNsid(AsUint(answer));
  if (!nsid) return MalformedAnswer("nvmf_subsystem_add_ns");
  return *nsid;
}

absl::StatusOr<std::optional<Subsystem>> FindSubsystem(jsonrpc::Caller& target,
                                                       const base::Context& context,
                                                       std::string_view nqn) {
  const Request request = GetSubsystem(nqn);
  return ParseSubsystem(target.Call(context, request));
}

absl::StatusOr<size_t> CountHosts(jsonrpc::Caller& target, const base::Context& context,
                                  std::string_view nqn) {
  const Request request{"nvmf_subsystem_get_controllers", {{"nqn", nqn}}};
  const absl::StatusOr<Json> controllers = target.Call(context, request);
  if (jsonrpc::GetTargetError(controllers.status())) return 0;
  if (!controllers.ok()) return controllers.status();
  if (!controllers->is_array()) return MalformedAnswer("nvmf_subsystem_get_controllers");
  return controllers->size();
}

bool IsNoSuchSubsystem(const absl::Status& status) {
  std::optional<jsonrpc::TargetError> error = jsonrpc::GetTargetError(status);
  if (!error) return false;
  // Older SPDK versions answer -ENODEV; newer ones name the subsystem that was not found.
  if (error->code == -ENODEV) return true;
  return error->code == jsonrpc::kInvalidParams &&
         error->message.starts_with("Subsystem with NQN ") &&
         error->message.ends_with(" not found");
}

absl::Status EnsureTransport(jsonrpc::Caller& target, const base::Context& context,
                             std::string_view trtype, const Json& options) {
  absl::Status status = DoToEnd(target, context, CreateTransport(trtype, options));
  std::optional<jsonrpc::TargetError> error = jsonrpc::GetTargetError(status);
  bool exists = error && (error->code == -EEXIST || error->message.ends_with("already exists"));
  return exists ? absl::OkStatus() : status;
}

}  // namespace sma::spdk
