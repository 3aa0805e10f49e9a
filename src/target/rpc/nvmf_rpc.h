#pragma once

#include "target/nvmf/target.h"
#include "target/rpc/rpc_server.h"

namespace sma::target::rpc {

/// All methods nvmf_*, and the subsystem "nvmf".
void RegisterNvmfRpc(RpcServer& server, nvmf::Target& target);

// The parts of it.
void RegisterNvmfTransportRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfSubsystemRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfHostRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfListenerRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfNamespaceRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfDiscoveryRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfConnectionRpc(RpcServer& server, nvmf::Target& target);
void RegisterNvmfConfigRpc(RpcServer& server, nvmf::Target& target);

}  // namespace sma::target::rpc
