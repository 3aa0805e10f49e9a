#pragma once

#include <cstdint>

#include "target/nvme/status.h"

namespace sma::target::nvmf {

class QueuePair;
struct Request;

/// Starts an I/O command (NVM Command Set 1.0 §3): ties it to its namespace and finds the bytes of
/// data that it moves. Returns why it fails before any data move: no such namespace, no such
/// opcode, more than the transport allows.
nvme::Status StartIo(const QueuePair& queue_pair, Request& request, uint32_t& size_bytes);

/// Executes an I/O command whose data, if the host sends any, are there. Ends in
/// QueuePair::Complete, now or later, or is to be called again when QueuePair::AcquireBuffer had no
/// memory.
void ExecuteIo(QueuePair& queue_pair, Request& request);

}  // namespace sma::target::nvmf
