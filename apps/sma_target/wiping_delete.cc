// SPDX-License-Identifier: Apache-2.0

// Overwrites all memory that C++ frees. Keys and passwords pass through strings, JSON values and
// buffers of libraries, each of which would leave a copy in the heap when it is freed. Nothing on
// the I/O path allocates or frees, so only the control plane pays for this.

#include <malloc.h>
#include <string.h>

#include <cstddef>
#include <cstdlib>
#include <new>

#include "base/sanitizer.h"

#ifndef SMA_HAS_SANITIZER

namespace {

void WipeAndFree(void* memory) noexcept {
  if (memory == nullptr) return;
  ::explicit_bzero(memory, ::malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

void operator delete(void* memory) noexcept { WipeAndFree(memory); }
void operator delete[](void* memory) noexcept { WipeAndFree(memory); }
void operator delete(void* memory, size_t) noexcept { WipeAndFree(memory); }
void operator delete[](void* memory, size_t) noexcept { WipeAndFree(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { WipeAndFree(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { WipeAndFree(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { WipeAndFree(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { WipeAndFree(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { WipeAndFree(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { WipeAndFree(memory); }

#endif
