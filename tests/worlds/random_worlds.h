// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worlds/world.h"

namespace sma::worlds {

/// Events that may occur in a random world.
struct Risks {
  bool many_paths = false;  // volumes of a node use different addresses and ways
  bool clashes = false;     // an operator uses the agent's names and numbers
  bool adoption = false;    // devices of another agent are adopted
  bool limits = false;      // limits are checked when volumes are detached
  bool faults = true;       // the agent dies, and calls fail in any way
  bool storage = true;      // nodes are disconnected, hang and recover
};
Risks AllRisks();

/// The options and steps of a world; identical for identical seeds.
struct RandomWorld {
  uint64_t seed = 0;
  WorldOptions options;
  std::vector<std::string> steps;
};
RandomWorld MakeRandomWorld(uint64_t seed, const Risks& risks);

/// Returns the problems after the steps, one per line.
std::vector<std::string> RunWorld(const WorldOptions& options,
                                  const std::vector<std::string>& steps);

/// Returns the kind of a problem: its text without numbers.
std::string KindOf(const std::string& problem);

/// Removes steps as long as the rest still causes a problem of the same kind.
std::vector<std::string> Shrink(const WorldOptions& options, std::vector<std::string> steps,
                                const std::string& kind);

}  // namespace sma::worlds
