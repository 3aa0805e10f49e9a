// SPDX-License-Identifier: Apache-2.0

// Implements nvmf_create_subsystem, nvmf_delete_subsystem, nvmf_get_subsystems and
// nvmf_set_max_subsystems.

#include "storage_target/bdev/bdev.h"
#include "storage_target/nvmf/target.h"
#include "storage_target/rpc/nvmf/nvmf_format.h"
#include "storage_target/rpc/nvmf/nvmf_rpc.h"

namespace sma::storage_target::rpc {
namespace {

RpcResult CreateSubsystem(nvmf::Target& target, const Json& params) {
  nvmf::SubsystemOptions options;
  TargetName name;
  // Options that would announce unsupported functions to hosts are rejected.
  bool ana_reporting = false, passthrough = false, enable_nssr = false;
  bool decoded = Decode(
      params,
      {Required("nqn", &options.nqn), TargetNameField(&name),
       Optional("serial_number", &options.serial_number),
       Optional("model_number", &options.model_number),
       Optional("max_namespaces", &options.max_namespaces),
       Optional("allow_any_host", &options.allow_any_host),
       Optional("min_cntlid", &options.min_cntlid), Optional("max_cntlid", &options.max_cntlid),
       Optional("dmrsl", &options.dsm_range_size_limit),
       Optional("wzsl", &options.write_zeroes_limit), Optional("ana_reporting", &ana_reporting),
       Optional("passthrough", &passthrough), Optional("enable_nssr", &enable_nssr),
       Ignored("admin_label"), Ignored("max_discard_size_kib"),
       Ignored("max_write_zeroes_size_kib")});
  if (!decoded) return InvalidParams();
  if (!name.is_ours()) return NoSuchTarget();
  if (ana_reporting) return NotSupported("ana_reporting");
  if (passthrough) return NotSupported("passthrough");
  if (enable_nssr) return NotSupported("enable_nssr");
  if (options.max_namespaces == 0) options.max_namespaces = nvmf::SubsystemOptions().max_namespaces;
  std::string nqn = options.nqn;
  if (nqn.find(':') == std::string::npos) return InternalError("Unable to create subsystem " + nqn);
  if (!target.CreateSubsystem(std::move(options)).ok())
    return InternalError("Unable to create subsystem " + nqn);
  return Json(true);
}

void DeleteSubsystem(nvmf::Target& target, const Json& params, const Reply& reply) {
  std::string nqn;
  TargetName name;
  if (!Decode(params, {Required("nqn", &nqn), TargetNameField(&name)}))
    return reply(InvalidParams());
  WithSubsystemAsync(target, name, nqn, reply, {}, [&](nvmf::Subsystem& subsystem) {
    target.DeleteSubsystem(subsystem, [reply] { reply(Json(true)); });
    return 0;
  });
}

Json FormatNamespace(const nvmf::NamespaceInfo& info) {
  const std::string& bdev_name = info.descriptor->bdev().name();
  Json json = {{"nsid", info.nsid},
               {"bdev_name", bdev_name},
               {"name", bdev_name},
               {"uuid", info.uuid.ToString()}};
  if (!info.nguid.is_nil()) json["nguid"] = FormatHex(info.nguid.ToBytes());
  std::string_view eui64(reinterpret_cast<const char*>(info.eui64.data()), info.eui64.size());
  if (info.eui64 != decltype(info.eui64){}) json["eui64"] = FormatHex(eui64);
  return json;
}

void AddNvmeFields(const nvmf::Subsystem& subsystem, Json& json) {
  const nvmf::SubsystemOptions& options = subsystem.options();
  json["serial_number"] = options.serial_number;
  json["model_number"] = options.model_number;
  json["max_namespaces"] = options.max_namespaces;
  json["passthrough"] = false;
  json["min_cntlid"] = options.min_cntlid;
  json["max_cntlid"] = options.max_cntlid;
  json["dmrsl"] = options.dsm_range_size_limit;
  json["wzsl"] = options.write_zeroes_limit;
  json["namespaces"] = Json::array();
  for (const auto& info : subsystem.namespaces().List())
    json["namespaces"].push_back(FormatNamespace(*info));
}

Json FormatSubsystem(const nvmf::Subsystem& subsystem) {
  const nvmf::SubsystemOptions& options = subsystem.options();
  Json json = {{"nqn", options.nqn},
               {"subtype", options.discovery ? "Discovery" : "NVMe"},
               {"listen_addresses", Json::array()},
               {"allow_any_host", subsystem.allow_any_host()},
               {"hosts", Json::array()}};
  for (const auto& listener : subsystem.listeners()) {
    json["listen_addresses"].push_back(FormatAddress(listener.address));
  }
  for (const std::string& host : subsystem.hosts()) json["hosts"].push_back({{"nqn", host}});
  if (!options.discovery) AddNvmeFields(subsystem, json);
  return json;
}

RpcResult GetSubsystems(nvmf::Target& target, const Json& params) {
  std::optional<std::string> nqn;
  TargetName name;
  if (!Decode(params, {Optional("nqn", &nqn), TargetNameField(&name)})) return InvalidParams();
  if (nqn) {
    return WithSubsystem(target, name, *nqn, [](nvmf::Subsystem& subsystem) {
      return Json::array({FormatSubsystem(subsystem)});
    });
  }
  if (!name.is_ours()) return NoSuchTarget();
  Json list = Json::array();
  for (const auto& [key, subsystem] : target.subsystems())
    list.push_back(FormatSubsystem(*subsystem));
  return list;
}

RpcResult SetMax(nvmf::Target& target, const Json& params) {
  uint32_t count = 0;
  if (!Decode(params, {Required("max_subsystems", &count)}) || count == 0) return InvalidParams();
  target.set_max_subsystems(count);
  return Json(true);
}

}  // namespace

void RegisterNvmfSubsystemRpc(RpcServer& server, nvmf::Target& target) {
  server.Register("nvmf_create_subsystem",
                  [&target](const Json& params) { return CreateSubsystem(target, params); });
  server.RegisterAsync("nvmf_delete_subsystem", [&target](const Json& params, const Reply& reply) {
    DeleteSubsystem(target, params, reply);
  });
  server.Register("nvmf_get_subsystems",
                  [&target](const Json& params) { return GetSubsystems(target, params); });
  server.Register(
      "nvmf_set_max_subsystems", [&target](const Json& params) { return SetMax(target, params); },
      Phase::kStartup);
}

}  // namespace sma::storage_target::rpc
