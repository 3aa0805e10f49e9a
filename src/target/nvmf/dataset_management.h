#pragma once

#include <cstdint>

#include "target/nvme/command.h"

namespace sma::target::nvmf {

class NamespaceEntry;
class QueuePair;
struct Request;

/// The bytes of the ranges that a Dataset Management command (NVM Command Set 1.0 §3.2.3) carries.
uint32_t DatasetManagementSize(const nvme::Command& command);

/// Executes the command, whose ranges are there: all are checked, then each is deallocated, one
/// after the other. The attributes other than "deallocate" are hints and do nothing.
void ExecuteDatasetManagement(QueuePair& queue_pair, NamespaceEntry& entry, Request& request);

}  // namespace sma::target::nvmf
