// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "storage_target/nvme/status.h"

namespace sma::storage_target::nvmf {

class QueuePair;
struct Request;

/// Sets `size_bytes` to the amount of data that an admin command (NVMe Base 2.0 §5) transfers.
/// Returns kSuccess, or the status with which the command fails before any data is transferred.
nvme::Status AdminDataSize(const QueuePair& queue_pair, const Request& request,
                           uint32_t& size_bytes);

/// Executes an admin command; data from the host must have been received. Calls
/// QueuePair::Complete, possibly later. Must be called again if QueuePair::AcquireBuffer has no
/// memory.
void ExecuteAdmin(QueuePair& queue_pair, Request& request);

}  // namespace sma::storage_target::nvmf
