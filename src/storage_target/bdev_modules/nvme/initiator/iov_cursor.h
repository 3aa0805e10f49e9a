// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace sma::storage_target::initiator {

/// A forward-only position in a list of buffers. The caller never requests more bytes than remain.
class IovCursor {
 public:
  IovCursor() = default;
  explicit IovCursor(const iovec* iovs, size_t offset = 0) : iov_(iovs), offset_(offset) {}

  /// Returns the contiguous bytes at the position, at most `limit`, and advances past them.
  std::span<std::byte> Take(size_t limit) {
    SkipEmpty();
    auto* base = static_cast<std::byte*>(iov_->iov_base) + offset_;
    size_t size = std::min(limit, iov_->iov_len - offset_);
    offset_ += size;
    return {base, size};
  }

  /// Copies `bytes` to the position and advances past them.
  void Write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      std::span<std::byte> to = Take(bytes.size());
      std::memcpy(to.data(), bytes.data(), to.size());
      bytes = bytes.subspan(to.size());
    }
  }

  /// Calls `visit` with the contiguous pieces of the next `size_bytes` and advances past them.
  template <typename Visit>
  void ForEach(size_t size_bytes, Visit visit) {
    while (size_bytes > 0) {
      std::span<std::byte> piece = Take(size_bytes);
      size_bytes -= piece.size();
      visit(piece);
    }
  }

 private:
  void SkipEmpty() {
    while (offset_ == iov_->iov_len) {
      ++iov_;
      offset_ = 0;
    }
  }

  const iovec* iov_ = nullptr;
  size_t offset_ = 0;
};

}  // namespace sma::storage_target::initiator
