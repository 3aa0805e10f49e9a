// SPDX-License-Identifier: Apache-2.0

// A library for LD_PRELOAD that counts the calls of malloc and related functions, including C++'s
// operator new, in the first eight bytes of the file named by COUNT_ALLOCATIONS.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

// glibc's own functions, under names that nothing replaces.
extern "C" void* __libc_malloc(size_t size);
extern "C" void* __libc_calloc(size_t count, size_t size);
extern "C" void* __libc_realloc(void* memory, size_t size);
extern "C" void* __libc_memalign(size_t alignment, size_t size);

namespace {

using Counter = std::atomic<uint64_t>;

Counter uncounted;
std::atomic<Counter*> counter{&uncounted};

void Count() { counter.load(std::memory_order_relaxed)->fetch_add(1, std::memory_order_relaxed); }

[[gnu::constructor]] void MapCounter() {
  const char* path = getenv("COUNT_ALLOCATIONS");
  if (path == nullptr) return;
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(Counter)) != 0) abort();
  void* memory = mmap(nullptr, sizeof(Counter), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) abort();
  close(fd);
  counter = static_cast<Counter*>(memory);
}

}  // namespace

extern "C" void* malloc(size_t size) {
  Count();
  return __libc_malloc(size);
}

extern "C" void* calloc(size_t count, size_t size) {
  Count();
  return __libc_calloc(count, size);
}

extern "C" void* realloc(void* memory, size_t size) {
  Count();
  return __libc_realloc(memory, size);
}

extern "C" void* memalign(size_t alignment, size_t size) {
  Count();
  return __libc_memalign(alignment, size);
}

extern "C" void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

extern "C" int posix_memalign(void** memory, size_t alignment, size_t size) {
  *memory = memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}
