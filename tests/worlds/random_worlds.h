#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worlds/world.h"

namespace sma::worlds {

/// What may happen in a random world.
struct Risks {
  bool many_paths = false;  // one node's volumes through several addresses, in several ways
  bool clashes = false;     // an operator who uses the agent's names and numbers
  bool adoption = false;    // devices of another agent
  bool limits = false;      // limits are judged when volumes are detached
  bool faults = true;       // deaths of the agent, calls that fail in any way
  bool storage = true;      // nodes that go, hang and come back
};
Risks AllRisks();

/// A world's options and steps; equal for equal seeds.
struct RandomWorld {
  uint64_t seed = 0;
  WorldOptions options;
  std::vector<std::string> steps;
};
RandomWorld MakeRandomWorld(uint64_t seed, const Risks& risks);

/// What is wrong after the steps, a line each.
std::vector<std::string> RunWorld(const WorldOptions& options,
                                  const std::vector<std::string>& steps);

/// The kind of a problem: its text without numbers.
std::string KindOf(const std::string& problem);

/// Leaves out steps for as long as a problem of the same kind comes of the rest.
std::vector<std::string> Shrink(const WorldOptions& options, std::vector<std::string> steps,
                                const std::string& kind);

}  // namespace sma::worlds
