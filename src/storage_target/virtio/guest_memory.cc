// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/guest_memory.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "base/log.h"
#include "base/peer_log.h"
#include "storage_target/virtio/memory_file.h"
#include "storage_target/virtio/received_fd.h"

namespace sma::storage_target::virtio {
namespace {

// Sets `page_bytes` to the page size of the file's memory. Returns 0, or an errno value if the
// first `end_bytes` of the file cannot be mapped. Devices have no size: an access beyond their end
// raises SIGBUS.
int CheckFile(int fd, uint64_t end_bytes, uint64_t& page_bytes) {
  struct stat status {};
  struct statfs file_system {};
  if (::fstat(fd, &status) != 0 || ::fstatfs(fd, &file_system) != 0) return errno;
  // Sockets are refused, because unmapping closes the file and close(2) of a socket can block.
  if (S_ISSOCK(status.st_mode)) return EINVAL;
  if (!MayHoldGuestMemory(file_system.f_type)) {
    base::LogOfPeers().Log(
        spdlog::level::warn, "guest memory",
        "guest memory refused: its file is on {} (type {:#x}), where an access may block forever",
        FileSystemName(file_system.f_type), static_cast<uint32_t>(file_system.f_type));
    return EPERM;
  }
  page_bytes = static_cast<uint64_t>(file_system.f_type == HUGETLBFS_MAGIC ? file_system.f_bsize
                                                                           : ::getpagesize());
  if (S_ISREG(status.st_mode) && static_cast<uint64_t>(status.st_size) < end_bytes) return EINVAL;
  return 0;
}

bool Overflows(uint64_t address, uint64_t size_bytes) {
  return address > std::numeric_limits<uint64_t>::max() - size_bytes;
}

bool Overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) {
  return a < b + b_size && b < a + a_size;
}

}  // namespace

base::ErrnoOr<std::shared_ptr<const SharedMapping>> SharedMapping::Map(
    int fd, uint64_t offset_bytes, uint64_t size_bytes, Access access,
    std::shared_ptr<GuardShare> guards) {
  using Result = base::ErrnoOr<std::shared_ptr<const SharedMapping>>;
  constexpr uint64_t kMaxBytes = uint64_t{1} << 62;
  if (size_bytes == 0 || size_bytes > kMaxBytes || offset_bytes > kMaxBytes) {
    return Result::Error(EINVAL);
  }
  uint64_t page_bytes = 0;
  if (int error = CheckFile(fd, offset_bytes + size_bytes, page_bytes); error != 0) {
    return Result::Error(error);
  }
  const uint64_t lead_bytes = offset_bytes % page_bytes;
  const uint64_t mapped_bytes =
      (lead_bytes + size_bytes + page_bytes - 1) / page_bytes * page_bytes;
  const int protection = PROT_READ | (access == Access::kReadWrite ? PROT_WRITE : 0);
  void* address = ::mmap(nullptr, mapped_bytes, protection, MAP_SHARED | MAP_NORESERVE, fd,
                         static_cast<off_t>(offset_bytes - lead_bytes));
  if (address == MAP_FAILED) return Result::Error(errno);
  ::madvise(address, mapped_bytes, MADV_DONTDUMP);  // core dumps must not contain guest memory
  std::span<std::byte> pages(static_cast<std::byte*>(address), mapped_bytes);
  std::shared_ptr<const SharedMapping> mapping(new SharedMapping(
      pages, page_bytes, pages.subspan(lead_bytes, size_bytes), std::move(guards)));
  if (!mapping->guard_->armed()) return Result::Error(ENOSPC);
  return mapping;
}

SharedMapping::~SharedMapping() {
  guard_.reset();
  UnmapInBackground(pages_, page_bytes_);
}

int GuestMemory::Add(MemoryRegion region) {
  if (!region.mapping || region.mapping->bytes().size() != region.size_bytes) return EINVAL;
  if (Overflows(region.guest_address, region.size_bytes) ||
      Overflows(region.user_address, region.size_bytes)) {
    return EINVAL;
  }
  for (const MemoryRegion& other : regions_) {
    if (Overlap(region.guest_address, region.size_bytes, other.guest_address, other.size_bytes) ||
        Overlap(region.user_address, region.size_bytes, other.user_address, other.size_bytes)) {
      return EINVAL;
    }
  }
  if (regions_.size() >= kMaxRegions) return ENOSPC;
  auto place =
      std::ranges::upper_bound(regions_, region.guest_address, {}, &MemoryRegion::guest_address);
  regions_.insert(place, std::move(region));
  return 0;
}

int GuestMemory::Remove(uint64_t guest_address, uint64_t user_address, uint64_t size_bytes) {
  size_t removed = std::erase_if(regions_, [&](const MemoryRegion& region) {
    return region.guest_address == guest_address && region.user_address == user_address &&
           region.size_bytes == size_bytes;
  });
  return removed == 0 ? ENOENT : 0;
}

std::span<std::byte> GuestMemory::Find(uint64_t guest_address, uint64_t max_bytes) const {
  auto after = std::ranges::upper_bound(regions_, guest_address, {}, &MemoryRegion::guest_address);
  if (after == regions_.begin()) return {};
  const MemoryRegion& region = *std::prev(after);
  const uint64_t offset = guest_address - region.guest_address;
  if (offset >= region.size_bytes) return {};
  return region.mapping->bytes().subspan(offset, std::min(max_bytes, region.size_bytes - offset));
}

std::byte* GuestMemory::Translate(uint64_t guest_address, uint64_t size_bytes) const {
  std::span<std::byte> found = Find(guest_address, size_bytes);
  return !found.empty() && found.size() == size_bytes ? found.data() : nullptr;
}

std::byte* GuestMemory::TranslateUser(uint64_t user_address, uint64_t size_bytes) const {
  for (const MemoryRegion& region : regions_) {
    if (user_address < region.user_address) continue;
    const uint64_t offset = user_address - region.user_address;
    if (offset >= region.size_bytes || size_bytes > region.size_bytes - offset) continue;
    return region.mapping->bytes().data() + offset;
  }
  return nullptr;
}

bool GuestMemory::intact() const {
  return std::ranges::all_of(regions_, [](const MemoryRegion& r) { return r.mapping->intact(); });
}

}  // namespace sma::storage_target::virtio
