// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <utility>

namespace sma::storage_target::nvmf::tcp {

/// Anonymous memory in whole pages, which uses no physical memory until touched. Movable, not
/// copyable.
class MappedMemory {
 public:
  MappedMemory() = default;
  /// Maps the memory. valid() returns false if the kernel refuses the mapping.
  explicit MappedMemory(size_t size_bytes);
  MappedMemory(MappedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedMemory& operator=(MappedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedMemory();

  /// Returns true if the process may map this much more memory. Other threads may use that memory
  /// at any time.
  static bool HasRoomFor(size_t size_bytes);

  /// Returns all pages to the kernel: they read as zero again and use no physical memory until
  /// touched.
  void Release() { ReleaseFrom(0); }
  /// Like Release, for the pages that lie completely at or after `offset_bytes`.
  void ReleaseFrom(size_t offset_bytes);

  bool valid() const { return data_ != nullptr; }
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace sma::storage_target::nvmf::tcp
