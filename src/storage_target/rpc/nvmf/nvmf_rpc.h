// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "storage_target/nvmf/target.h"
#include "storage_target/rpc/rpc_server.h"

namespace sma::storage_target::rpc {

/// Registers all nvmf_* methods and the subsystem "nvmf".
void RegisterNvmfRpc(RpcServer& server, nvmf::Target& target);

// Register some of these methods; called by RegisterNvmfRpc.
void RegisterNvmfTransportRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfSubsystemRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfHostRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfListenerRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfNamespaceRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfDiscoveryRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfConnectionRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfConfigRpc(RpcServer& server, nvmf::Target& target);

}  // namespace sma::storage_target::rpc
