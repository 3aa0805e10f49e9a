// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <utility>

namespace sma::storage_target::bdev_malloc {

/// Anonymous memory that reads as zeroes until it is written. Pages that were neither populated nor
/// accessed use no memory.
class SparseMemory {
 public:
  /// Ranges below this size are zeroed by writing zeroes, larger ones by discarding their pages.
  static constexpr size_t kMinDiscardBytes = 64 * 1024;

  /// data() returns nullptr if the address space is exhausted.
  explicit SparseMemory(size_t size) : size_(size) {
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return;
    data_ = static_cast<std::byte*>(memory);
    if (size >= kHugePageBytes) ::madvise(data_, size, MADV_HUGEPAGE);
    ::madvise(data_, size, MADV_DONTDUMP);
  }
  ~SparseMemory() {
    if (data_ != nullptr) ::munmap(data_, size_);
  }
  SparseMemory(SparseMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
  SparseMemory& operator=(SparseMemory&&) = delete;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

  /// `offset` and `size` are in bytes, within the memory.
  void Zero(size_t offset, size_t size) const {
    std::byte* begin = data_ + offset;
    std::byte* end = begin + size;
    std::byte* first_page = AlignUp(begin);
    std::byte* pages_end = AlignUp(end - kPageBytes + 1);
    if (size < kMinDiscardBytes || !Discard(first_page, pages_end)) {
      std::memset(begin, 0, size);
      return;
    }
    std::memset(begin, 0, static_cast<size_t>(first_page - begin));
    std::memset(pages_end, 0, static_cast<size_t>(end - pages_end));
  }

 private:
  static constexpr size_t kPageBytes = 4096;
  static constexpr size_t kHugePageBytes = 2 << 20;

  // Rounds up to a page boundary. The mapping itself starts at a page boundary.
  std::byte* AlignUp(std::byte* address) const {
    auto offset = static_cast<size_t>(address - data_);
    return data_ + (offset + kPageBytes - 1) / kPageBytes * kPageBytes;
  }
  static bool Discard(std::byte* begin, std::byte* end) {
    return ::madvise(begin, static_cast<size_t>(end - begin), MADV_DONTNEED) == 0;
  }

  std::byte* data_ = nullptr;
  size_t size_;
};

}  // namespace sma::storage_target::bdev_malloc
