// SPDX-License-Identifier: Apache-2.0

#include "base/log.h"
#include "storage_target/rpc/app/framework_rpc.h"

namespace sma::storage_target::rpc {
namespace {

// Methods that SPDK's save_config writes for a comparable target and that deployment scripts call
// first.
constexpr const char* kStartupMethods[] = {
    "accel_set_options",     "bdev_set_options",      "iobuf_set_options", "sock_impl_set_options",
    "sock_set_default_impl", "scheduler_set_options", "iscsi_set_options", "vmd_enable",
    "nvmf_set_crdt",
};
constexpr const char* kMethods[] = {
    "bdev_nvme_set_hotplug",          "bdev_raid_set_options",           "framework_set_scheduler",
    "framework_enable_cpumask_locks", "framework_disable_cpumask_locks",
};

void Ignore(RpcServer& server, const char* method, Phase phase) {
  server.Register(
      method,
      [method](const Json& /*params*/) -> RpcResult {
        spdlog::info("{} was accepted but has no effect", method);
        return Json(true);
      },
      phase);
}

}  // namespace

void RegisterIgnoredRpc(RpcServer& server) {
  for (const char* method : kStartupMethods) Ignore(server, method, Phase::kStartup);
  for (const char* method : kMethods) Ignore(server, method, Phase::kAny);
  server.Register("iobuf_get_stats",
                  [](const Json& /*params*/) -> RpcResult { return Json::array(); });
  server.Register("sock_get_default_impl", [](const Json& /*params*/) -> RpcResult {
    return Json{{"impl_name", "posix"}};
  });
  server.Register("framework_get_scheduler", [](const Json& /*params*/) -> RpcResult {
    return Json{{"scheduler_name", "static"}, {"scheduler_period", 0}};
  });
  server.Register("framework_get_pci_devices",
                  [](const Json& /*params*/) -> RpcResult { return Json::array(); });
  for (const char* name : {"scheduler", "sock", "iobuf", "accel"}) server.AddSubsystem({name, {}});
}

}  // namespace sma::storage_target::rpc
