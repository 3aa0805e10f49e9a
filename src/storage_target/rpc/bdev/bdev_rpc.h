// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "storage_target/bdev/registry.h"
#include "storage_target/bdev_modules/passthru/passthru_bdev.h"
#include "storage_target/rpc/bdev/bdev_waiter.h"
#include "storage_target/rpc/rpc_server.h"

namespace sma::storage_target::rpc {

/// Registers the methods for all bdevs (bdev_get_bdevs, bdev_get_iostat, bdev_set_qos_limit and
/// others) and the subsystem "bdev".
void RegisterBdevRpc(RpcServer& server, bdev::Registry& registry, BdevWaiter& waiter);

// Register bdev_MODULE_create, bdev_MODULE_delete and similar methods.
void RegisterNullBdevRpc(RpcServer& server, bdev::Registry& registry);
void RegisterMallocBdevRpc(RpcServer& server, bdev::Registry& registry);
void RegisterFileBdevRpc(RpcServer& server, bdev::Registry& registry);
void RegisterPassthruBdevRpc(RpcServer& server, bdev_passthru::PassthruModule& module);

/// Implements bdev_MODULE_delete: unregisters the bdev named in `params`, and replies with true
/// when it no longer exists.
void DeleteBdev(bdev::Registry& registry, std::string_view module, const Json& params,
                const Reply& reply);

}  // namespace sma::storage_target::rpc
