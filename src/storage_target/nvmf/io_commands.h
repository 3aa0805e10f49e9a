// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "storage_target/nvme/status.h"

namespace sma::storage_target::nvmf {

class QueuePair;
struct Request;

/// Starts an I/O command (NVM Command Set 1.0 §3): assigns it to its namespace and sets
/// `size_bytes` to the amount of data that it transfers. Returns kSuccess, or the status with which
/// the command fails before any data is transferred: invalid namespace or opcode, or more data than
/// the transport allows.
nvme::Status StartIo(const QueuePair& queue_pair, Request& request, uint32_t& size_bytes);

/// Executes an I/O command; data from the host must have been received. Calls QueuePair::Complete,
/// possibly later. Must be called again if QueuePair::AcquireBuffer has no memory.
void ExecuteIo(QueuePair& queue_pair, Request& request);

}  // namespace sma::storage_target::nvmf
