// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <vector>

namespace sma::storage_target::bdev {

/// A small, bounded number of page-aligned bounce buffers of one size, allocated on first use and
/// kept. A user waits if no buffer is free. Not thread-safe.
class BufferPool {
 public:
  BufferPool(size_t buffer_bytes, size_t max_buffers)
      : buffer_bytes_(buffer_bytes), max_buffers_(max_buffers) {}

  size_t buffer_bytes() const { return buffer_bytes_; }

  /// Returns null if all buffers are in use.
  std::byte* Take() {
    if (free_.empty() && !Grow()) return nullptr;
    std::byte* buffer = free_.back();
    free_.pop_back();
    return buffer;
  }

  void Give(std::byte* buffer) { free_.push_back(buffer); }

 private:
  static constexpr size_t kAlignment = 4096;
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  bool Grow() {
    if (buffers_.size() == max_buffers_) return false;
    void* memory = std::aligned_alloc(kAlignment, buffer_bytes_);
    if (memory == nullptr) std::abort();
    buffers_.emplace_back(static_cast<std::byte*>(memory));
    free_.reserve(max_buffers_);
    free_.push_back(buffers_.back().get());
    return true;
  }

  const size_t buffer_bytes_;
  const size_t max_buffers_;
  std::vector<std::unique_ptr<std::byte, Free>> buffers_;
  std::vector<std::byte*> free_;
};

}  // namespace sma::storage_target::bdev
