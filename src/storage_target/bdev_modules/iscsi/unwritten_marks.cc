// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/unwritten_marks.h"

#include <cwchar>
#include <memory>

namespace sma::storage_target::bdev_iscsi {
namespace {

// The C library's functions for wide characters serve as vectorized functions for 32-bit words.
static_assert(sizeof(wchar_t) == sizeof(uint32_t));

std::span<wchar_t> WordsOf(const scsi_iovec& iov) {
  void* begin = iov.iov_base;
  size_t size_bytes = iov.iov_len;
  if (std::align(alignof(wchar_t), sizeof(wchar_t), begin, size_bytes) == nullptr) return {};
  return {static_cast<wchar_t*>(begin), size_bytes / sizeof(wchar_t)};
}

}  // namespace

void PlantMarks(std::span<const scsi_iovec> iovs, uint32_t mark) {
  for (const scsi_iovec& iov : iovs) {
    const std::span<wchar_t> words = WordsOf(iov);
    if (!words.empty()) std::wmemset(words.data(), static_cast<wchar_t>(mark), words.size());
  }
}

std::optional<uint64_t> FindMark(std::span<const scsi_iovec> iovs, uint32_t mark) {
  uint64_t before_bytes = 0;
  for (const scsi_iovec& iov : iovs) {
    const std::span<wchar_t> words = WordsOf(iov);
    const wchar_t* found =
        words.empty() ? nullptr
                      : std::wmemchr(words.data(), static_cast<wchar_t>(mark), words.size());
    if (found != nullptr) {
      return before_bytes + static_cast<uint64_t>(reinterpret_cast<const std::byte*>(found) -
                                                  static_cast<const std::byte*>(iov.iov_base));
    }
    before_bytes += iov.iov_len;
  }
  return std::nullopt;
}

}  // namespace sma::storage_target::bdev_iscsi
