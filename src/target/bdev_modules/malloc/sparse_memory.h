#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <utility>

namespace sma::target::bdev_modules {

/// Memory of the process that reads as zeroes until written; nothing is held for pages that were
/// neither populated nor accessed.
class SparseMemory {
 public:
  /// Zeroing less than this is done by writing zeroes, more by giving pages back.
  static constexpr size_t kMinDiscardBytes = 64 * 1024;

  /// data() is nullptr if the address space is used up.
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

  /// Both in bytes, within the memory.
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

  // Within the mapping, which starts at a page.
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

}  // namespace sma::target::bdev_modules
