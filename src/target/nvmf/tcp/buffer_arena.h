#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sma::target::nvmf::tcp {

/// Buffers for the data of commands, cut from one piece of memory. Takes the lowest free place, so
/// that the same pages are used again while they are in the cache, and memory beyond what is needed
/// is not touched. Not thread-safe.
class BufferArena {
 public:
  static constexpr size_t kPageSize = 4096;
  /// The memory's size is a multiple of it.
  static constexpr size_t kGranularity = 64 * kPageSize;

  /// `memory` begins at a page and outlives the arena.
  explicit BufferArena(std::span<std::byte> memory);

  /// A contiguous buffer that begins at a page; nullptr when there is no room for it now. Rounded
  /// up to a power of two of pages.
  std::byte* Allocate(size_t size_bytes);
  void Free(std::byte* buffer, size_t size_bytes);

  /// What a buffer of this size takes.
  static size_t RoundedSize(size_t size_bytes);
  /// No buffer in use is at or beyond this offset; a multiple of kGranularity.
  size_t used_end_bytes() const;

 private:
  static constexpr size_t kPagesPerWord = 64;

  std::byte* AllocateInWord(size_t page_count);
  std::byte* AllocateWords(size_t word_count);

  static constexpr size_t kOrdersInWord = 6;  // buffers of 1, 2, 4... 32 pages

  std::byte* memory_;
  std::vector<uint64_t> used_;  // a bit for each page
  // No word before this one has room for a buffer of that order.
  std::array<size_t, kOrdersInWord> first_fit_{};
};

}  // namespace sma::target::nvmf::tcp
