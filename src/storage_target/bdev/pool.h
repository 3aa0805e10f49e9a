// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace sma::storage_target::bdev {

/// Reusable objects, each constructed once, for the child I/Os of stacked modules. Grows by a block
/// when all are in use and never shrinks, so that no allocation happens in steady state. Not
/// thread-safe; must outlive its objects.
template <typename T>
class Pool {
 public:
  T& Take() {
    if (free_.empty()) Grow();
    T* object = free_.back();
    free_.pop_back();
    return *object;
  }

  void Give(T& object) { free_.push_back(&object); }

 private:
  static constexpr size_t kBlockObjects = 64;

  void Grow() {
    blocks_.push_back(std::make_unique<T[]>(kBlockObjects));
    free_.reserve(blocks_.size() * kBlockObjects);
    for (size_t i = 0; i < kBlockObjects; ++i) free_.push_back(&blocks_.back()[i]);
  }

  std::vector<std::unique_ptr<T[]>> blocks_;
  std::vector<T*> free_;
};

}  // namespace sma::storage_target::bdev
