#pragma once

#include "target/bdev_modules/iscsi/iscsi_module.h"
#include "target/rpc/rpc_server.h"

namespace sma::target::rpc {

/// bdev_iscsi_create, bdev_iscsi_delete, bdev_iscsi_set_options.
void RegisterIscsiRpc(RpcServer& server, bdev_iscsi::IscsiModule& module);

}  // namespace sma::target::rpc
