#pragma once

#include <ostream>
#include <string>

#include "worlds/world.h"

namespace sma::worlds {

/// A short history of a world that an agent once got wrong.
struct Sequence {
  const char* name;    // of the test: the defect's number in the contract, and what happens
  const char* script;  // steps of World; "$N" stands for each of 1 to kMaxDeath
  WorldOptions options{};
};
inline void PrintTo(const Sequence& sequence, std::ostream* out) { *out << sequence.script; }
inline constexpr int kMaxDeath = 14;

}  // namespace sma::worlds
