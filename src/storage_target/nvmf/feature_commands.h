// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "storage_target/nvme/command.h"

namespace sma::storage_target::nvmf {

class QueuePair;
struct Request;

/// Returns the size in bytes of the data of a Get or Set Features command.
uint32_t FeatureDataSize(const nvme::Command& command);

/// Execute Get Features and Set Features; their data, if any, must have been received.
void GetFeatures(QueuePair& queue_pair, Request& request);
void SetFeatures(QueuePair& queue_pair, Request& request);

}  // namespace sma::storage_target::nvmf
