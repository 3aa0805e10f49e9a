#pragma once

#include <cstdint>

#include "target/nvme/status.h"

namespace sma::target::nvmf {

class QueuePair;
struct Request;

/// The bytes of data that a Fabrics command (NVMe Base 2.0 §6) moves; kSuccess, or why it fails
/// before any do.
nvme::Status FabricsDataSize(const QueuePair& queue_pair, const Request& request,
                             uint32_t& size_bytes);

/// Executes a Fabrics command whose data, if it has any, are there.
void ExecuteFabrics(QueuePair& queue_pair, Request& request);

}  // namespace sma::target::nvmf
