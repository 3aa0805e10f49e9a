// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev/zeroes.h"

#include <sys/mman.h>

#include <cstdlib>

namespace sma::storage_target::bdev {

std::span<std::byte> Zeroes() {
  static constexpr size_t kSize = 1 << 20;
  static void* memory = ::mmap(nullptr, kSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  return {static_cast<std::byte*>(memory), kSize};
}

}  // namespace sma::storage_target::bdev
