// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "jsonrpc/protocol.h"
#include "storage_target/nvmf/transport.h"

namespace sma::storage_target::rpc {

/// Formats a transport for nvmf_get_transports.
jsonrpc::Json FormatTransport(const nvmf::Transport& transport);
/// Formats the parameters with which nvmf_create_transport creates the same transport.
jsonrpc::Json FormatTransportParams(const nvmf::Transport& transport);

}  // namespace sma::storage_target::rpc
