// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "storage_target/nvme/status.h"

namespace sma::storage_target::nvmf {

class QueuePair;
struct Request;

/// Sets `size_bytes` to the amount of data that a Fabrics command (NVMe Base 2.0 §6) transfers.
/// Returns kSuccess, or the status with which the command fails before any data is transferred.
nvme::Status FabricsDataSize(const QueuePair& queue_pair, const Request& request,
                             uint32_t& size_bytes);

/// Executes a Fabrics command; its data, if any, must have been received.
void ExecuteFabrics(QueuePair& queue_pair, Request& request);

}  // namespace sma::storage_target::nvmf
