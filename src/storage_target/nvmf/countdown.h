// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cassert>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

namespace sma::storage_target::nvmf {

/// Returns a function that calls `done` at its `count`-th call. If `count` is 0, calls `done`
/// immediately. Not thread-safe.
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

}  // namespace sma::storage_target::nvmf
