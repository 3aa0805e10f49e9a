// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <vector>

namespace sma::worlds {

/// The words of a step of a world.
using Words = std::vector<std::string>;

/// Return an empty string or 0 if the step has fewer words.
inline std::string WordAt(const Words& words, size_t i) { return i < words.size() ? words[i] : ""; }
inline int NumberAt(const Words& words, size_t i) {
  return i < words.size() ? std::stoi(words[i]) : 0;
}

}  // namespace sma::worlds
