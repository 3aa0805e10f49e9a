// Keys and passwords pass through strings, JSON values and buffers of libraries on their way in and
// out; each of these would leave a copy in the heap when it is freed. So all that C++ frees is
// overwritten. Nothing on the I/O path allocates or frees, so this costs the control plane alone.

#include <malloc.h>
#include <string.h>

#include <cstddef>
#include <cstdlib>
#include <new>

// The sanitizers have their own.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SMA_HAS_SANITIZER
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SMA_HAS_SANITIZER
#endif

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
