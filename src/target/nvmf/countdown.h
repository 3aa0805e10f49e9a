#pragma once

#include <cassert>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

namespace sma::target::nvmf {

/// Runs `done` when `count` things have happened, each told by a call of the function that is
/// returned; at once when there are none. One thread's.
inline std::function<void()> Countdown(size_t count, std::function<void()> done) {
  if (count == 0) {
    done();
    return [] { assert(false); };
  }
  auto left = std::make_shared<size_t>(count);
  return [left, done = std::move(done)] {
    if (--*left == 0) done();
  };
}

}  // namespace sma::target::nvmf
