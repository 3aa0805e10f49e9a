// SPDX-License-Identifier: Apache-2.0

// Implements bdev_nvme_set_options and bdev_nvme_set_multipath_policy.

#include <algorithm>
#include <cerrno>
#include <optional>
#include <vector>

#include "storage_target/rpc/bdev/bdev_nvme_rpc.h"

namespace sma::storage_target::rpc {
namespace {

using bdev_nvme::ModuleOptions;
using bdev_nvme::NvmeModule;
using TimeoutAction = ModuleOptions::TimeoutAction;

struct ActionParam {
  TimeoutAction action = TimeoutAction::kNone;
};
// A command cannot be aborted reliably over a network, so "abort" also resets the connection.
bool FromJson(const Json& value, ActionParam* out) {
  if (value != "none" && value != "reset" && value != "abort") return false;
  out->action = value == "none" ? TimeoutAction::kNone : TimeoutAction::kReset;
  return true;
}

RpcResult SetOptions(NvmeModule& module, const Json& params) {
  ModuleOptions options = module.options();
  std::optional<ActionParam> action;
  ReconnectParams reconnect;
  MultipathParams multipath;
  bool decoded =
      Decode(params, {Optional("action_on_timeout", &action),
                      Optional("timeout_us", &options.timeout_us),
                      Optional("timeout_admin_us", &options.timeout_admin_us),
                      Optional("keep_alive_timeout_ms", &options.keep_alive_timeout_ms),
                      Optional("io_queue_requests", &options.io_queue_requests),
                      Optional("bdev_retry_count", &options.bdev_retry_count),
                      Optional("transport_ack_timeout", &options.transport_ack_timeout),
                      Optional("tcp_connect_timeout_ms", &options.tcp_connect_timeout_ms),
                      Optional("ctrlr_loss_timeout_sec", &reconnect.ctrlr_loss_timeout_sec),
                      Optional("reconnect_delay_sec", &reconnect.reconnect_delay_sec),
                      Optional("fast_io_fail_timeout_sec", &reconnect.fast_io_fail_timeout_sec),
                      Optional("multipath_opts", &multipath),
                      Ignored("arbitration_burst"),
                      Ignored("low_priority_weight"),
                      Ignored("medium_priority_weight"),
                      Ignored("high_priority_weight"),
                      Ignored("nvme_adminq_poll_period_us"),
                      Ignored("nvme_ioq_poll_period_us"),
                      Ignored("delay_cmd_submit"),
                      Ignored("retry_count"),
                      Ignored("transport_retry_count"),
                      Ignored("disable_auto_failback"),
                      Ignored("generate_uuids"),
                      Ignored("transport_tos"),
                      Ignored("nvme_error_stat"),
                      Ignored("rdma_srq_size"),
                      Ignored("io_path_stat"),
                      Ignored("allow_accel_sequence"),
                      Ignored("rdma_max_cq_size"),
                      Ignored("rdma_cm_event_timeout_ms"),
                      Ignored("dhchap_digests"),
                      Ignored("dhchap_dhgroups"),
                      Ignored("rdma_umr_per_io"),
                      Ignored("enable_flush")});
  if (!decoded) return DecodeError();
  if (action) options.action_on_timeout = action->action;
  options.reconnect = reconnect.WithDefaults(options.reconnect).value_or(options.reconnect);
  if (multipath.policy) options.policy = multipath.policy->policy;
  return TrueOrErrno(module.SetOptions(options));
}

RpcResult SetMultipathPolicy(NvmeModule& module, const Json& params) {
  std::string name;
  PolicyParam policy;
  if (!Decode(params, {Required("name", &name), Required("policy", &policy), Ignored("selector"),
                       Ignored("min_io"), Ignored("rr_min_io")})) {
    return DecodeError();
  }
  // SPDK sets the policy of one bdev. In this target the bdevs of a subsystem share their paths,
  // and therefore the policy.
  for (bdev_nvme::RemoteSubsystem* subsystem : module.List()) {
    const std::vector<std::string> bdevs = subsystem->BdevNames();
    if (std::find(bdevs.begin(), bdevs.end(), name) == bdevs.end()) continue;
    subsystem->SetPolicy(policy.policy);
    return Json(true);
  }
  return ErrnoError(ENODEV);
}

}  // namespace

void RegisterBdevNvmeOptionsRpc(RpcServer& server, NvmeModule& module) {
  server.Register(
      "bdev_nvme_set_options", [&](const Json& params) { return SetOptions(module, params); },
      Phase::kAny);
  server.Register("bdev_nvme_set_multipath_policy",
                  [&](const Json& params) { return SetMultipathPolicy(module, params); });
}

}  // namespace sma::storage_target::rpc
