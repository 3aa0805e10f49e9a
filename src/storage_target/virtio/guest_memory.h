// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/errno_or.h"
#include "storage_target/virtio/bus_error_guard.h"

namespace sma::storage_target::virtio {

/// Memory that another process shares by passing a file descriptor, mapped into this process.
/// Unmapped after destruction, on another thread. Immutable; may be used on any thread.
class SharedMapping {
 public:
  enum class Access { kReadOnly, kReadWrite };

  /// Maps `size_bytes` at `offset_bytes` of the file `fd`, which remains owned by the caller.
  /// Errors: EINVAL if the size is 0, the range overflows or exceeds the file; EPERM for a file
  /// system on which an access could block forever (see MayHoldGuestMemory); ENOSPC if there are
  /// too many mappings, in all or in `guards` (may be null); otherwise the errno of mmap(2).
  static base::ErrnoOr<std::shared_ptr<const SharedMapping>> Map(
      int fd, uint64_t offset_bytes, uint64_t size_bytes, Access access = Access::kReadWrite,
      std::shared_ptr<GuardShare> guards = nullptr);
  ~SharedMapping();
  SharedMapping(const SharedMapping&) = delete;
  SharedMapping& operator=(const SharedMapping&) = delete;

  /// Returns the requested range, without the padding to whole pages.
  std::span<std::byte> bytes() const { return bytes_; }
  /// Returns false once an access found the memory without backing because its file was truncated:
  /// from then on, reads and writes use private memory of this process.
  bool intact() const { return !guard_->broken(); }

 private:
  SharedMapping(std::span<std::byte> pages, uint64_t page_bytes, std::span<std::byte> bytes,
                std::shared_ptr<GuardShare> guards)
      : pages_(pages), page_bytes_(page_bytes), bytes_(bytes) {
    guard_.emplace(pages.data(), pages.size(), std::move(guards));
  }

  std::span<std::byte> pages_;  // the whole mapping
  uint64_t page_bytes_;
  std::span<std::byte> bytes_;
  std::optional<BusErrorGuard> guard_;
};

/// A region of guest memory (vhost-user, "Memory region description").
struct MemoryRegion {
  uint64_t guest_address = 0;
  uint64_t size_bytes = 0;
  uint64_t user_address = 0;  // in the front end's address space
  std::shared_ptr<const SharedMapping> mapping;
};

/// Maps a guest's addresses to this process. A value type; immutable once it is shared between
/// threads.
class GuestMemory {
 public:
  static constexpr size_t kMaxRegions = 256;

  /// Adds a region. Errors: EINVAL if addresses overflow or overlap another region, or if the
  /// mapping has a different size; ENOSPC if there are already kMaxRegions.
  int Add(MemoryRegion region);
  /// Removes the region with exactly these addresses and size. Returns ENOENT if there is none.
  int Remove(uint64_t guest_address, uint64_t user_address, uint64_t size_bytes);

  /// Returns the address of `size_bytes` at `guest_address`, or nullptr unless the whole range lies
  /// in one region.
  std::byte* Translate(uint64_t guest_address, uint64_t size_bytes) const;
  /// Returns the memory at `guest_address` up to the end of its region, at most `max_bytes`; empty
  /// if the address is in no region. Used to walk over a buffer that spans regions.
  std::span<std::byte> Find(uint64_t guest_address, uint64_t max_bytes) const;
  /// Like Translate, for an address in the front end's address space.
  std::byte* TranslateUser(uint64_t user_address, uint64_t size_bytes) const;

  /// Returns false once one of the mappings is not intact.
  bool intact() const;
  const std::vector<MemoryRegion>& regions() const { return regions_; }

 private:
  std::vector<MemoryRegion> regions_;  // sorted by guest address
};

}  // namespace sma::storage_target::virtio
