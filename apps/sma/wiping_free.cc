// Keys and passwords pass through messages of protobuf, slices of gRPC, JSON values and strings on
// their way from a request to the target; each would leave a copy in the heap when it is freed. So
// all that this process frees is overwritten, in C++ or in C. Replaces glibc's functions for the
// program and its shared libraries; they are backed by the same allocator (malloc(3),
// __libc_free()).

#include <malloc.h>
#include <string.h>

#include <cstddef>

// The sanitizers have their own.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SMA_HAS_SANITIZER
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SMA_HAS_SANITIZER
#endif

#if defined(__GLIBC__) && !defined(SMA_HAS_SANITIZER)

extern "C" {

void __libc_free(void* memory);  // NOLINT(bugprone-reserved-identifier): glibc's

void free(void* memory) {  // NOLINT(readability-inconsistent-declaration-parameter-name)
  if (memory == nullptr) return;
  ::explicit_bzero(memory, ::malloc_usable_size(memory));
  __libc_free(memory);
}

// glibc's would free the old block, or the end of it, as it is.
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
