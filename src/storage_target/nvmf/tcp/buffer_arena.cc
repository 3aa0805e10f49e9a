// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/buffer_arena.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace sma::storage_target::nvmf::tcp {
namespace {

size_t PageCount(size_t size_bytes) {
  return std::bit_ceil((size_bytes + BufferArena::kPageSize - 1) / BufferArena::kPageSize);
}

// Returns a mask of the lowest `count` bits (a power of two, less than 64).
uint64_t LowBits(size_t count) { return (uint64_t{1} << count) - 1; }

// Returns a mask of the first page of each run of `count` pages, aligned to `count`.
uint64_t RunStarts(size_t count) { return ~uint64_t{0} / LowBits(count); }

}  // namespace

BufferArena::BufferArena(std::span<std::byte> memory)
    : memory_(memory.data()), used_(memory.size() / kGranularity) {
  assert(memory.size() % kGranularity == 0);
}

std::byte* BufferArena::Allocate(size_t size_bytes) {
  size_t pages = PageCount(size_bytes);
  return pages < kPagesPerWord ? AllocateInWord(pages) : AllocateWords(pages / kPagesPerWord);
}

size_t BufferArena::RoundedSize(size_t size_bytes) { return PageCount(size_bytes) * kPageSize; }

size_t BufferArena::used_end_bytes() const {
  size_t word = used_.size();
  while (word > 0 && used_[word - 1] == 0) --word;
  return word * kGranularity;
}

std::byte* BufferArena::AllocateInWord(size_t page_count) {
  size_t& first_fit = first_fit_[static_cast<size_t>(std::countr_zero(page_count))];
  for (; first_fit < used_.size(); ++first_fit) {
    // Bit i stays set if pages i to i + page_count - 1 are free.
    uint64_t free = ~used_[first_fit];
    for (size_t step = 1; step < page_count; step *= 2) free &= free >> step;
    free &= RunStarts(page_count);
    if (free == 0) continue;
    auto page = static_cast<size_t>(std::countr_zero(free));
    used_[first_fit] |= LowBits(page_count) << page;
    return memory_ + (first_fit * kPagesPerWord + page) * kPageSize;
  }
  return nullptr;
}

std::byte* BufferArena::AllocateWords(size_t word_count) {
  for (size_t word = 0; word + word_count <= used_.size(); word += word_count) {
    auto begin = used_.begin() + static_cast<ptrdiff_t>(word);
    auto end = begin + static_cast<ptrdiff_t>(word_count);
    if (std::any_of(begin, end, [](uint64_t used) { return used != 0; })) continue;
    std::fill(begin, end, ~uint64_t{0});
    return memory_ + word * kPagesPerWord * kPageSize;
  }
  return nullptr;
}

void BufferArena::Free(std::byte* buffer, size_t size_bytes) {
  size_t pages = PageCount(size_bytes);
  size_t first = static_cast<size_t>(buffer - memory_) / kPageSize;
  size_t word = first / kPagesPerWord;
  for (size_t& first_fit : first_fit_) first_fit = std::min(first_fit, word);
  if (pages < kPagesPerWord) {
    uint64_t mask = LowBits(pages) << first % kPagesPerWord;
    assert((used_[word] & mask) == mask);
    used_[word] &= ~mask;
    return;
  }
  std::fill_n(used_.begin() + static_cast<ptrdiff_t>(word), pages / kPagesPerWord, 0);
}

}  // namespace sma::storage_target::nvmf::tcp
