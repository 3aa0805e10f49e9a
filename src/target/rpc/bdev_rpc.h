#pragma once

#include "target/bdev/registry.h"
#include "target/bdev_modules/passthru/passthru_bdev.h"
#include "target/rpc/bdev_waiter.h"
#include "target/rpc/rpc_server.h"

namespace sma::target::rpc {

/// Methods for all bdevs: bdev_get_bdevs, bdev_get_iostat, bdev_set_qos_limit and so on, and the
/// subsystem "bdev".
void RegisterBdevRpc(RpcServer& server, bdev::Registry& registry, BdevWaiter& waiter);

// bdev_MODULE_create, _delete and so on.
void RegisterNullBdevRpc(RpcServer& server, bdev::Registry& registry);
void RegisterMallocBdevRpc(RpcServer& server, bdev::Registry& registry);
void RegisterFileBdevRpc(RpcServer& server, bdev::Registry& registry);
void RegisterPassthruBdevRpc(RpcServer& server, bdev_modules::PassthruModule& module);

/// Answers bdev_MODULE_delete: unregisters the bdev `params` names and answers true when it is
/// gone.
void DeleteBdev(bdev::Registry& registry, std::string_view module, const Json& params,
                const Reply& reply);

}  // namespace sma::target::rpc
