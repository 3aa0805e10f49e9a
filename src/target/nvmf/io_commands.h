#pragma once

#include <cstdint>

#include "target/nvme/status.h"

namespace sma::target::nvmf {

class QueuePair;
struct Request;

/// The bytes of data that an I/O command (NVM Command Set 1.0 §3) moves; kSuccess, or why it fails
/// before any data move: no such namespace, no such opcode, more than the transport allows.
nvme::Status IoDataSize(const QueuePair& queue_pair, const Request& request, uint32_t& size_bytes);

/// Executes an I/O command whose data, if the host sends any, are there. Ends in
/// QueuePair::Complete, now or later, or is to be called again when QueuePair::AcquireBuffer had no
/// memory.
void ExecuteIo(QueuePair& queue_pair, Request& request);

}  // namespace sma::target::nvmf
