// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/core/core.h"
#include "agent/volume/shared_connections.h"

namespace sma::core {

class Reconciler;

/// The number of devices or volumes that have a condition of the admin service that indicates a
/// problem.
struct ConditionCount {
  std::string object;     // "device" or "volume"
  std::string condition;  // its type, "PathsUp" say
  uint32_t count = 0;
};

/// The numbers of all problems.
struct ConditionCounts {
  uint32_t degraded = 0;                   // of each kind and type, including zero counts
  std::vector<ConditionCount> conditions;  // of each kind and type, also zero counts
  volume::PathCount paths;                 // the sum over all volumes
};

/// Counts the conditions in one pass over the record, without calling the target and without
/// copying rows.
ConditionCounts CountConditions(const Core& core, const Reconciler& reconciler);

}  // namespace sma::core
