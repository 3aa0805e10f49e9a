#pragma once

#include "target/rpc/rpc_server.h"
#include "target/vhost_user/controller_table.h"

namespace sma::target::rpc {

/// vhost_create_blk_controller, vhost_get_controllers, vhost_delete_controller, and the subsystem
/// "vhost_blk".
void RegisterVhostRpc(RpcServer& server, vhost_user::ControllerTable& table);

}  // namespace sma::target::rpc
