#include "target/nvmf/tcp/mapped_memory.h"

#include <sys/mman.h>

namespace sma::target::nvmf::tcp {

MappedMemory::MappedMemory(size_t size_bytes) {
  void* memory = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;
  data_ = static_cast<std::byte*>(memory);
  size_ = size_bytes;
  // One touched byte must not cost a huge page in each of many connections.
  ::madvise(data_, size_, MADV_NOHUGEPAGE);
}

MappedMemory::~MappedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

void MappedMemory::Release() { ::madvise(data_, size_, MADV_DONTNEED); }

}  // namespace sma::target::nvmf::tcp
