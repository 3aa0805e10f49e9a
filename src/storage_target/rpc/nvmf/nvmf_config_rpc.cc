// SPDX-License-Identifier: Apache-2.0

// Implements nvmf_set_config, and the results of framework_get_config and save_config for the
// subsystem "nvmf".

#include "storage_target/bdev/bdev.h"
#include "storage_target/rpc/nvmf/nvmf_format.h"
#include "storage_target/rpc/nvmf/nvmf_rpc.h"
#include "storage_target/rpc/nvmf/nvmf_transport_format.h"

namespace sma::storage_target::rpc {
namespace {

using Filter = nvmf::Target::DiscoveryFilter;

constexpr char kMatchAny[] = "match_any";
constexpr std::pair<const char*, bool Filter::*> kFilters[] = {
    {"transport", &Filter::same_transport},
    {"address", &Filter::same_address},
    {"svcid", &Filter::same_service_id}};

bool DecodeFilter(const std::vector<std::string>& names, Filter* out) {
  *out = {};
  for (const std::string& name : names) {
    bool known = name == kMatchAny;
    for (const auto& [filter_name, member] : kFilters) {
      if (name != filter_name) continue;
      out->*member = true;
      known = true;
    }
    if (!known) return false;
  }
  return true;
}

Json FormatFilter(const Filter& filter) {
  Json names = Json::array();
  for (const auto& [name, member] : kFilters) {
    if (filter.*member) names.push_back(name);
  }
  if (names.empty()) names.push_back(kMatchAny);
  return names;
}

std::vector<std::string> SplitAtCommas(const std::string& text) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (true) {
    size_t comma = text.find(',', begin);
    parts.push_back(text.substr(begin, comma - begin));
    if (comma == std::string::npos) return parts;
    begin = comma + 1;
  }
}

RpcResult SetConfig(nvmf::Target& target, const Json& params) {
  std::optional<std::string> filter_text;
  std::vector<std::string> filter_names;
  bool decoded =
      Decode(params, {Optional("discovery_filter", &filter_text),
                      Optional("discovery_filters", &filter_names), Ignored("admin_cmd_passthru"),
                      Ignored("poll_groups_mask"), Ignored("dhchap_digests"),
                      Ignored("dhchap_dhgroups"), Ignored("dup_host_policy")});
  if (!decoded) return InvalidParams();
  if (filter_text) filter_names = SplitAtCommas(*filter_text);
  if (filter_names.empty()) return Json(true);
  Filter filter;
  if (!DecodeFilter(filter_names, &filter)) return InvalidParams();
  target.set_discovery_filter(filter);
  return Json(true);
}

Json Call(const char* method, Json params) {
  return {{"method", method}, {"params", std::move(params)}};
}

Json SaveNamespace(const std::string& nqn, const nvmf::NamespaceInfo& info) {
  Json described = {{"nsid", info.nsid},
                    {"bdev_name", info.descriptor->bdev().name()},
                    {"uuid", info.uuid.ToString()},
                    {"nguid", FormatHex(info.nguid.ToBytes())}};
  std::string_view eui64(reinterpret_cast<const char*>(info.eui64.data()), info.eui64.size());
  if (info.eui64 != decltype(info.eui64){}) described["eui64"] = FormatHex(eui64);
  return Call("nvmf_subsystem_add_ns", {{"nqn", nqn}, {"namespace", std::move(described)}});
}

void SaveSubsystem(const nvmf::Subsystem& subsystem, Json& calls) {
  const nvmf::SubsystemOptions& options = subsystem.options();
  const std::string& nqn = options.nqn;
  if (!options.discovery) {
    calls.push_back(Call("nvmf_create_subsystem", {{"nqn", nqn},
                                                   {"allow_any_host", subsystem.allow_any_host()},
                                                   {"serial_number", options.serial_number},
                                                   {"model_number", options.model_number},
                                                   {"max_namespaces", options.max_namespaces},
                                                   {"min_cntlid", options.min_cntlid},
                                                   {"max_cntlid", options.max_cntlid},
                                                   {"dmrsl", options.dsm_range_size_limit},
                                                   {"wzsl", options.write_zeroes_limit}}));
  } else if (!subsystem.allow_any_host()) {
    calls.push_back(
        Call("nvmf_subsystem_allow_any_host", {{"nqn", nqn}, {"allow_any_host", false}}));
  }
  // In both lists, the most recently added element is the first.
  for (auto host = subsystem.hosts().rbegin(); host != subsystem.hosts().rend(); ++host) {
    calls.push_back(Call("nvmf_subsystem_add_host", {{"nqn", nqn}, {"host", *host}}));
  }
  for (const auto& info : subsystem.namespaces().List()) calls.push_back(SaveNamespace(nqn, *info));
  for (auto at = subsystem.listeners().rbegin(); at != subsystem.listeners().rend(); ++at) {
    calls.push_back(Call("nvmf_subsystem_add_listener",
                         {{"nqn", nqn}, {"listen_address", FormatAddressParams(at->address)}}));
  }
}

Json Save(const nvmf::Target& target) {
  Json calls = Json::array();
  calls.push_back(
      Call("nvmf_set_config", {{"discovery_filters", FormatFilter(target.discovery_filter())}}));
  calls.push_back(Call("nvmf_set_max_subsystems", {{"max_subsystems", target.max_subsystems()}}));
  for (const auto& transport : target.transports()) {
    calls.push_back(Call("nvmf_create_transport", FormatTransportParams(*transport)));
  }
  for (const auto& [nqn, subsystem] : target.subsystems()) SaveSubsystem(*subsystem, calls);
  for (const nvmf::Referral& referral : target.referrals()) {
    calls.push_back(
        Call("nvmf_discovery_add_referral", {{"address", FormatAddressParams(referral.address)},
                                             {"subnqn", referral.subsystem_nqn},
                                             {"secure_channel", referral.secure_channel}}));
  }
  return calls;
}

}  // namespace

void RegisterNvmfConfigRpc(RpcServer& server, nvmf::Target& target) {
  server.Register(
      "nvmf_set_config", [&target](const Json& params) { return SetConfig(target, params); },
      Phase::kStartup);
  server.AddSubsystem({"nvmf", {"bdev"}, [&target] { return Save(target); }});
}

void RegisterNvmfRpc(RpcServer& server, nvmf::Target& target) {
  RegisterNvmfTransportRpc(server, target);
  RegisterNvmfSubsystemRpc(server, target);
  RegisterNvmfHostRpc(server, target);
  RegisterNvmfListenerRpc(server, target);
  RegisterNvmfNamespaceRpc(server, target);
  RegisterNvmfDiscoveryRpc(server, target);
  RegisterNvmfConnectionRpc(server, target);
  RegisterNvmfConfigRpc(server, target);
}

}  // namespace sma::storage_target::rpc
