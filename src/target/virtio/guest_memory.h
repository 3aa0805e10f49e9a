#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/errno_or.h"
#include "target/virtio/bus_error_guard.h"

namespace sma::target::virtio {

/// Memory that another process shares by a descriptor, mapped into this one.
/// Unmapped when destroyed. Immutable: any thread.
class SharedMapping {
 public:
  enum class Access { kReadOnly, kReadWrite };

  /// Maps `size_bytes` that begin `offset_bytes` into the file `fd`, which stays the caller's.
  /// EINVAL: no bytes, an overflow, or more than the file has; EPERM: a file whose owner could
  /// make an access wait for ever (FUSE); ENOSPC: too many mappings; else what mmap(2) says.
  static base::ErrnoOr<std::shared_ptr<const SharedMapping>> Map(
      int fd, uint64_t offset_bytes, uint64_t size_bytes, Access access = Access::kReadWrite);
  ~SharedMapping();
  SharedMapping(const SharedMapping&) = delete;
  SharedMapping& operator=(const SharedMapping&) = delete;

  /// The bytes asked for.
  std::span<std::byte> bytes() const { return bytes_; }
  /// False once an access found nothing behind the memory, because its file was cut short: what is
  /// read and written there from then on is this process's own.
  bool intact() const { return !guard_->broken(); }

 private:
  SharedMapping(std::span<std::byte> pages, std::span<std::byte> bytes)
      : pages_(pages), bytes_(bytes) {
    guard_.emplace(pages.data(), pages.size());
  }

  std::span<std::byte> pages_;  // what is mapped
  std::span<std::byte> bytes_;
  std::optional<BusErrorGuard> guard_;
};

/// A part of a guest's memory (vhost-user "Memory region description").
struct MemoryRegion {
  uint64_t guest_address = 0;
  uint64_t size_bytes = 0;
  uint64_t user_address = 0;  // in the front end's address space
  std::shared_ptr<const SharedMapping> mapping;
};

/// A guest's memory: what its addresses mean in this process. A value; once shared between threads
/// it is not changed any more.
class GuestMemory {
 public:
  static constexpr size_t kMaxRegions = 256;

  /// EINVAL: addresses overflow, overlap those of another region, or the mapping is of another
  /// size; ENOSPC: kMaxRegions are there.
  int Add(MemoryRegion region);
  /// The region with exactly these addresses and size; ENOENT when there is none.
  int Remove(uint64_t guest_address, uint64_t user_address, uint64_t size_bytes);

  /// `size_bytes` at `guest_address`, all in one region; nullptr when they are not.
  std::byte* Translate(uint64_t guest_address, uint64_t size_bytes) const;
  /// What lies at `guest_address`, to the end of its region, at most `max_bytes`; empty when
  /// nothing does. The way to walk over a buffer that spans regions.
  std::span<std::byte> Find(uint64_t guest_address, uint64_t max_bytes) const;
  /// As Translate, for an address of the front end's.
  std::byte* TranslateUser(uint64_t user_address, uint64_t size_bytes) const;

  /// False once one of the mappings is not intact.
  bool intact() const;
  const std::vector<MemoryRegion>& regions() const { return regions_; }

 private:
  std::vector<MemoryRegion> regions_;  // by guest address
};

}  // namespace sma::target::virtio
