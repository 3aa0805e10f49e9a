#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sma::target::nvmf::tcp {

/// Buffers for the data of one connection's commands, cut from one piece of memory: what a
/// connection may use at once is bounded, and one that is small or idle touches little. Takes the
/// lowest free place, so that the same pages are used again while they are in the cache. One
/// thread's.
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

 private:
  static constexpr size_t kPagesPerWord = 64;

  std::byte* AllocateInWord(size_t page_count);
  std::byte* AllocateWords(size_t word_count);

  std::byte* memory_;
  std::vector<uint64_t> used_;  // a bit for each page
};

}  // namespace sma::target::nvmf::tcp
