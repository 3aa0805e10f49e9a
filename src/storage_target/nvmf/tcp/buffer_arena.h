// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sma::storage_target::nvmf::tcp {

/// Allocates buffers for the data of commands from one piece of memory. Uses the lowest free
/// address, so that pages are reused while they are in the CPU cache and memory that is not needed
/// is not touched. Not thread-safe.
class BufferArena {
 public:
  static constexpr size_t kPageSize = 4096;
  /// The size of the memory must be a multiple of this.
  static constexpr size_t kGranularity = 64 * kPageSize;

  /// `memory` must be page-aligned and outlive the arena.
  explicit BufferArena(std::span<std::byte> memory);

  /// Returns a contiguous, page-aligned buffer, or nullptr if there is no room for it. The size is
  /// rounded up to a power-of-two number of pages.
  std::byte* Allocate(size_t size_bytes);
  void Free(std::byte* buffer, size_t size_bytes);

  /// Returns the memory that a buffer of this size occupies.
  static size_t RoundedSize(size_t size_bytes);
  /// Returns an offset, a multiple of kGranularity, at and beyond which no buffer is in use.
  size_t used_end_bytes() const;

 private:
  static constexpr size_t kPagesPerWord = 64;

  std::byte* AllocateInWord(size_t page_count);
  std::byte* AllocateWords(size_t word_count);

  static constexpr size_t kOrdersInWord = 6;  // buffers of 1, 2, 4... 32 pages

  std::byte* memory_;
  std::vector<uint64_t> used_;  // one bit per page
  // For each order, the first word that may have room for a buffer.
  std::array<size_t, kOrdersInWord> first_fit_{};
};

}  // namespace sma::storage_target::nvmf::tcp
