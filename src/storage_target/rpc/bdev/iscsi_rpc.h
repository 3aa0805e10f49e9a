// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "storage_target/bdev_modules/iscsi/iscsi_module.h"
#include "storage_target/rpc/rpc_server.h"

namespace sma::storage_target::rpc {

/// Registers bdev_iscsi_create, bdev_iscsi_delete and bdev_iscsi_set_options.
void RegisterIscsiRpc(RpcServer& server, bdev_iscsi::IscsiModule& module);

}  // namespace sma::storage_target::rpc
