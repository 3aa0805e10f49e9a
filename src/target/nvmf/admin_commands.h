#pragma once

#include <cstdint>

#include "target/nvme/status.h"

namespace sma::target::nvmf {

class QueuePair;
struct Request;

/// The bytes of data that an admin command (NVMe Base 2.0 §5) moves; kSuccess, or why it fails
/// before any do.
nvme::Status AdminDataSize(const QueuePair& queue_pair, const Request& request,
                           uint32_t& size_bytes);

/// Executes an admin command whose data, if the host sends any, are there. Ends in
/// QueuePair::Complete, now or later, or is to be called again when QueuePair::AcquireBuffer had no
/// memory.
void ExecuteAdmin(QueuePair& queue_pair, Request& request);

}  // namespace sma::target::nvmf
