// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/medium_copy.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <cstdint>
#include <cstring>

namespace sma::storage_target::bdev {

#ifdef __SSE2__
namespace {

constexpr size_t kLine = 64;
constexpr size_t kMinStreamed = 1024;

void StreamLine(std::byte* to, const std::byte* from) {
  auto* target = reinterpret_cast<__m128i*>(to);
  const auto* source = reinterpret_cast<const __m128i*>(from);
  __m128i a = _mm_loadu_si128(source);
  __m128i b = _mm_loadu_si128(source + 1);
  __m128i c = _mm_loadu_si128(source + 2);
  __m128i d = _mm_loadu_si128(source + 3);
  _mm_stream_si128(target, a);
  _mm_stream_si128(target + 1, b);
  _mm_stream_si128(target + 2, c);
  _mm_stream_si128(target + 3, d);
}

}  // namespace

void CopyToMedium(std::byte* to, const std::byte* from, size_t size_bytes) {
  if (size_bytes < kMinStreamed) {
    std::memcpy(to, from, size_bytes);
    return;
  }
  // Only whole cache lines are streamed, so that no line is written both with and without
  // streaming.
  size_t head = -reinterpret_cast<uintptr_t>(to) % kLine;
  std::memcpy(to, from, head);
  size_t end = head + (size_bytes - head) / kLine * kLine;
  for (size_t at = head; at < end; at += kLine) StreamLine(to + at, from + at);
  std::memcpy(to + end, from + end, size_bytes - end);
}

void OrderMediumCopies() { _mm_sfence(); }
#else
void CopyToMedium(std::byte* to, const std::byte* from, size_t size_bytes) {
  std::memcpy(to, from, size_bytes);
}

void OrderMediumCopies() {}
#endif

}  // namespace sma::storage_target::bdev
