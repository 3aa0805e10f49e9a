#pragma once

namespace sma::target::nvmf {

class QueuePair;
struct Request;

/// The Identify command, NVMe Base 2.0 §5.17.
void Identify(QueuePair& queue_pair, Request& request);

}  // namespace sma::target::nvmf
