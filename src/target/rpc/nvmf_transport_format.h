#pragma once

#include "jsonrpc/protocol.h"
#include "target/nvmf/transport.h"

namespace sma::target::rpc {

/// A transport as nvmf_get_transports shows it and nvmf_create_transport takes it.
jsonrpc::Json FormatTransport(const nvmf::Transport& transport);

}  // namespace sma::target::rpc
