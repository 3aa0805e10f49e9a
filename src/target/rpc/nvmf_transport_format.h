#pragma once

#include "jsonrpc/protocol.h"
#include "target/nvmf/transport.h"

namespace sma::target::rpc {

/// A transport as nvmf_get_transports shows it.
jsonrpc::Json FormatTransport(const nvmf::Transport& transport);
/// The parameters by which nvmf_create_transport makes it again.
jsonrpc::Json FormatTransportParams(const nvmf::Transport& transport);

}  // namespace sma::target::rpc
