// SPDX-License-Identifier: Apache-2.0

#include "harness/vhost_user/guest_ram.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace sma::harness {

GuestRam::GuestRam(size_t size_bytes, uint64_t guest_address, uint64_t user_address)
    : fd_(::memfd_create("guest", MFD_CLOEXEC)),
      guest_address_(guest_address),
      user_address_(user_address) {
  void* address = MAP_FAILED;
  if (fd_ && ::ftruncate(fd_.get(), static_cast<off_t>(size_bytes)) == 0) {
    address = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  }
  if (address == MAP_FAILED) {
    std::perror("guest memory");
    std::abort();
  }
  bytes_ = {static_cast<std::byte*>(address), size_bytes};
}

GuestRam::~GuestRam() { ::munmap(bytes_.data(), bytes_.size()); }

GuestBuffer GuestRam::Allocate(size_t size_bytes, size_t alignment) {
  used_bytes_ = (used_bytes_ + alignment - 1) / alignment * alignment;
  if (used_bytes_ + size_bytes > bytes_.size()) {
    std::fputs("guest memory: used up\n", stderr);
    std::abort();
  }
  GuestBuffer buffer{guest_address_ + used_bytes_, bytes_.subspan(used_bytes_, size_bytes)};
  used_bytes_ += size_bytes;
  std::memset(buffer.bytes.data(), 0, size_bytes);
  return buffer;
}

}  // namespace sma::harness
