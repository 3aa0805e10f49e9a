#pragma once

#include <cstddef>
#include <utility>

namespace sma::target::nvmf::tcp {

/// Anonymous memory in whole pages that takes no room until it is touched. Movable, not copyable.
class MappedMemory {
 public:
  MappedMemory() = default;
  /// Not valid() when the kernel refuses.
  explicit MappedMemory(size_t size_bytes);
  MappedMemory(MappedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedMemory& operator=(MappedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedMemory();

  /// Gives all pages back to the kernel: they are zero again, and take no room until touched.
  void Release();

  bool valid() const { return data_ != nullptr; }
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace sma::target::nvmf::tcp
