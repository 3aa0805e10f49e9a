// SPDX-License-Identifier: Apache-2.0

// Overwrites all memory that this process frees. On their way from a request to the target, keys
// and passwords pass through protobuf messages, gRPC slices, JSON values and strings, each of which
// would leave a copy in the heap when it is freed. These functions replace those of glibc for the
// program and its shared libraries, and use the same allocator (malloc(3), __libc_free()).

#include <malloc.h>
#include <string.h>

#include <cstddef>

#include "base/sanitizer.h"

#if defined(__GLIBC__) && !defined(SMA_HAS_SANITIZER)

extern "C" {

void __libc_free(void* memory);  // NOLINT(bugprone-reserved-identifier): glibc's

void free(void* memory) {  // NOLINT(readability-inconsistent-declaration-parameter-name)
  if (memory == nullptr) return;
  ::explicit_bzero(memory, ::malloc_usable_size(memory));
  __libc_free(memory);
}

// glibc's realloc would free the old block, or the end of it, without overwriting it.
void* realloc(void* memory, size_t size) {
  if (memory == nullptr) return ::malloc(size);
  if (size == 0) {
    free(memory);
    return nullptr;
  }
  const size_t usable = ::malloc_usable_size(memory);
  if (size <= usable && size >= usable / 2) return memory;
  void* moved = ::malloc(size);
  if (moved == nullptr) return nullptr;
  ::memcpy(moved, memory, size < usable ? size : usable);
  free(memory);
  return moved;
}

}  // extern "C"

#endif
