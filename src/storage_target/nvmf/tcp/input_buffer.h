// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstring>
#include <span>

namespace sma::storage_target::nvmf::tcp {

/// Received bytes that have not been parsed, stored contiguously.
class InputBuffer {
 public:
  InputBuffer() = default;
  explicit InputBuffer(std::span<std::byte> memory) : memory_(memory) {}

  std::span<const std::byte> bytes() const { return memory_.subspan(begin_, end_ - begin_); }
  size_t size() const { return end_ - begin_; }
  const std::byte* data() const { return memory_.data() + begin_; }

  /// Returns the memory into which to receive; Commit sets how many bytes were received.
  std::span<std::byte> room() const { return memory_.subspan(end_); }
  void Commit(size_t size_bytes) { end_ += size_bytes; }

  void Consume(size_t size_bytes) { begin_ += size_bytes; }
  void Clear() { begin_ = end_ = 0; }
  /// Moves the remaining bytes to the front, so that all other memory is available for receiving.
  void Compact() {
    if (begin_ == 0) return;
    std::memmove(memory_.data(), memory_.data() + begin_, size());
    end_ -= begin_;
    begin_ = 0;
  }

 private:
  std::span<std::byte> memory_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace sma::storage_target::nvmf::tcp
