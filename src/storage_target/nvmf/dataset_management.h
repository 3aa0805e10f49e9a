// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

#include "storage_target/nvme/command.h"

namespace sma::storage_target::nvmf {

class NamespaceEntry;
class QueuePair;
struct Request;

/// Returns the size in bytes of the ranges of a Dataset Management command (NVM Command Set 1.0
/// §3.2.3).
uint32_t DatasetManagementSize(const nvme::Command& command);

/// Executes the command; its ranges must have been received. Checks all ranges, then deallocates
/// them one after another. Attributes other than "deallocate" are hints, which are ignored.
void ExecuteDatasetManagement(QueuePair& queue_pair, NamespaceEntry& entry, Request& request);

}  // namespace sma::storage_target::nvmf
