// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "storage_target/rpc/rpc_server.h"
#include "storage_target/vhost_user/controller_table.h"

namespace sma::storage_target::rpc {

/// Registers vhost_create_blk_controller, vhost_get_controllers, vhost_delete_controller and the
/// subsystem "vhost_blk".
void RegisterVhostRpc(RpcServer& server, vhost_user::ControllerTable& table);

}  // namespace sma::storage_target::rpc
