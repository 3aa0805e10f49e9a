// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/mapped_memory.h"

#include <sys/mman.h>
#include <unistd.h>

namespace sma::storage_target::nvmf::tcp {

MappedMemory::MappedMemory(size_t size_bytes) {
  void* memory = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;
  data_ = static_cast<std::byte*>(memory);
  size_ = size_bytes;
  // Touching a single byte must not use a whole huge page in each of many connections.
  ::madvise(data_, size_, MADV_NOHUGEPAGE);
}

MappedMemory::~MappedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

bool MappedMemory::HasRoomFor(size_t size_bytes) { return MappedMemory(size_bytes).valid(); }

void MappedMemory::ReleaseFrom(size_t offset_bytes) {
  const auto page_bytes = static_cast<size_t>(::getpagesize());
  const size_t begin = (offset_bytes + page_bytes - 1) / page_bytes * page_bytes;
  if (begin < size_) ::madvise(data_ + begin, size_ - begin, MADV_DONTNEED);
}

}  // namespace sma::storage_target::nvmf::tcp
