// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "storage_target/bdev/io.h"
#include "storage_target/bdev/medium_copy.h"

namespace sma::storage_target::bdev_malloc {

/// Copies the data of an I/O from or to the memory of a disk, or compares both, sequentially and in
/// parts.
class DataCursor {
 public:
  explicit DataCursor(const bdev::Io& io) : iov_(io.iovs) {}

  /// Copies the next `size` bytes of the I/O's buffers to `memory` with non-temporal stores. Other
  /// threads see them after OrderMediumCopies.
  void CopyTo(std::byte* memory, uint64_t size) {
    Visit(size, [&](std::byte* data, size_t part) {
      bdev::CopyToMedium(memory, data, part);
      memory += part;
    });
  }
  void CopyFrom(const std::byte* memory, uint64_t size) {
    Visit(size, [&](std::byte* data, size_t part) {
      std::memcpy(data, memory, part);
      memory += part;
    });
  }
  bool Equals(const std::byte* memory, uint64_t size) {
    bool equal = true;
    Visit(size, [&](const std::byte* data, size_t part) {
      equal = equal && std::memcmp(memory, data, part) == 0;
      memory += part;
    });
    return equal;
  }

 private:
  template <typename Use>
  void Visit(uint64_t size, Use use) {
    while (size > 0) {
      const size_t part = std::min<uint64_t>(size, iov_->iov_len - used_);
      use(static_cast<std::byte*>(iov_->iov_base) + used_, part);
      size -= part;
      used_ += part;
      if (used_ < iov_->iov_len) return;
      ++iov_;
      used_ = 0;
    }
  }

  const iovec* iov_;
  size_t used_ = 0;  // bytes of *iov_
};

}  // namespace sma::storage_target::bdev_malloc
