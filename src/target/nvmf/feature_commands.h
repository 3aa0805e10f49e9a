#pragma once

#include <cstdint>

#include "target/nvme/command.h"

namespace sma::target::nvmf {

class QueuePair;
struct Request;

/// The bytes of data that a Get or Set Features command moves.
uint32_t FeatureDataSize(const nvme::Command& command);

/// Executes Get Features and Set Features, whose data, if any, are there.
void GetFeatures(QueuePair& queue_pair, Request& request);
void SetFeatures(QueuePair& queue_pair, Request& request);

}  // namespace sma::target::nvmf
