#pragma once

#include <string>
#include <vector>

namespace sma::worlds {

/// A step of a world, word by word.
using Words = std::vector<std::string>;

/// Empty, or 0, where the step has fewer words.
inline std::string WordAt(const Words& words, size_t i) { return i < words.size() ? words[i] : ""; }
inline int NumberAt(const Words& words, size_t i) {
  return i < words.size() ? std::stoi(words[i]) : 0;
}

}  // namespace sma::worlds
