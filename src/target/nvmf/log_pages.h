#pragma once

namespace sma::target::nvmf {

class QueuePair;
struct Request;

/// The Get Log Page command, NVMe Base 2.0 §5.16.
void ReadLogPage(QueuePair& queue_pair, Request& request);

}  // namespace sma::target::nvmf
