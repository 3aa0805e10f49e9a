// SPDX-License-Identifier: Apache-2.0

// Implements nvmf_subsystem_get_controllers, nvmf_subsystem_get_qpairs and nvmf_get_stats.

#include "absl/strings/str_format.h"
#include "storage_target/nvmf/queue_pair.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/rpc/bdev_format.h"
#include "storage_target/rpc/nvmf/nvmf_format.h"
#include "storage_target/rpc/nvmf/nvmf_rpc.h"

namespace sma::storage_target::rpc {
namespace {

std::string PollGroupName(const Reactor& reactor) {
  return absl::StrFormat("nvmf_tgt_poll_group_%03d", reactor.options().index);
}

RpcResult WithNamedSubsystem(nvmf::Target& target, const Json& params,
                             const std::function<RpcResult(nvmf::Subsystem&)>& act) {
  std::string nqn;
  TargetName name;
  if (!Decode(params, {Required("nqn", &nqn), TargetNameField(&name)})) return InvalidParams();
  return WithSubsystem(target, name, nqn, act);
}

RpcResult GetControllers(nvmf::Subsystem& subsystem) {
  Json list = Json::array();
  for (const auto& [cntlid, association] : subsystem.associations().all()) {
    list.push_back(
        {{"cntlid", cntlid},
         {"hostnqn", association.controller->host_nqn()},
         {"hostid", association.controller->host_id().ToString()},
         {"num_io_qpairs", association.queue_pairs.size() - association.queue_pairs.count(0)}});
  }
  return list;
}

RpcResult GetQueuePairs(nvmf::Subsystem& subsystem) {
  Json list = Json::array();
  for (const auto& [cntlid, association] : subsystem.associations().all()) {
    for (const auto& [queue_id, queue_pair] : association.queue_pairs) {
      list.push_back({{"cntlid", cntlid},
                      {"qid", queue_id},
                      {"state", association.ending ? "deactivating" : "enabled"},
                      {"thread", PollGroupName(queue_pair->reactor())},
                      {"hostnqn", association.controller->host_nqn()},
                      {"listen_address", FormatAddress(queue_pair->listen_address())},
                      {"peer_address", FormatAddress(queue_pair->peer_address())}});
    }
  }
  return list;
}

RpcResult GetStats(nvmf::Target& target, const Json& params) {
  TargetName name;
  if (!Decode(params, {TargetNameField(&name)})) return InvalidParams();
  if (!name.is_ours()) return NoSuchTarget();
  Json transports = Json::array();
  for (const auto& transport : target.transports())
    transports.push_back({{"trtype", transport->type()}});
  Json groups = Json::array();
  for (const auto& group : target.poll_groups()) {
    groups.push_back({{"name", PollGroupName(*group->reactor)},
                      {"admin_qpairs", group->admin_queue_pairs},
                      {"io_qpairs", group->io_queue_pairs},
                      {"current_admin_qpairs", group->current_admin_queue_pairs},
                      {"current_io_qpairs", group->current_io_queue_pairs},
                      {"current_unassociated_qpairs", group->unassociated_queue_pairs.load()},
                      {"pending_bdev_io", 0},
                      {"completed_nvme_io", group->completed_commands.load()},
                      {"transports", transports}});
  }
  return Json{{"tick_rate", kTickRate}, {"poll_groups", groups}};
}

}  // namespace

void RegisterNvmfConnectionRpc(RpcServer& server, nvmf::Target& target) {
  server.Register("nvmf_subsystem_get_controllers", [&target](const Json& params) {
    return WithNamedSubsystem(target, params, GetControllers);
  });
  server.Register("nvmf_subsystem_get_qpairs", [&target](const Json& params) {
    return WithNamedSubsystem(target, params, GetQueuePairs);
  });
  server.Register("nvmf_get_stats",
                  [&target](const Json& params) { return GetStats(target, params); });
}

}  // namespace sma::storage_target::rpc
