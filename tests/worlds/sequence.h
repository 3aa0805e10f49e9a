// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <ostream>
#include <string>

#include "worlds/world.h"

namespace sma::worlds {

/// A short sequence of steps that an agent once handled incorrectly.
struct Sequence {
  const char* name;    // name of the test: the defect's number and the event
  const char* script;  // steps of World; "$N" stands for each of 1 to kMaxDeath
  WorldOptions options{};
};
inline void PrintTo(const Sequence& sequence, std::ostream* out) { *out << sequence.script; }
inline constexpr int kMaxDeath = 14;

}  // namespace sma::worlds
