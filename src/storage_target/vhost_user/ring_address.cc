// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vhost_user/ring_address.h"

#include <cerrno>
#include <cstddef>

namespace sma::storage_target::vhost_user {
namespace {

// Sets `part` to the memory at `address`. Also checks the alignment of `address`: a front end may
// have mapped the file at an address with a different alignment than this process.
template <typename T>
int FindPart(const virtio::GuestMemory& memory, uint64_t address, size_t size_bytes,
             size_t alignment, T*& part) {
  if (address % alignment != 0) return EINVAL;
  std::byte* bytes = memory.TranslateUser(address, size_bytes);
  if (bytes == nullptr) return EFAULT;
  if (reinterpret_cast<uintptr_t>(bytes) % alignment != 0) return EINVAL;
  part = reinterpret_cast<T*>(bytes);
  return 0;
}

}  // namespace

int FindRing(const virtio::GuestMemory& memory, const VringAddr& addresses, uint16_t size,
             virtio::SplitRing& ring) {
  using virtio::SplitRing;
  ring.size = size;
  int error = FindPart(memory, addresses.descriptors, SplitRing::DescriptorBytes(size),
                       SplitRing::kDescriptorAlignment, ring.descriptors);
  if (error != 0) return error;
  error = FindPart(memory, addresses.available, SplitRing::AvailableBytes(size),
                   SplitRing::kAvailableAlignment, ring.available);
  if (error != 0) return error;
  return FindPart(memory, addresses.used, SplitRing::UsedBytes(size), SplitRing::kUsedAlignment,
                  ring.used);
}

int FindRing(const virtio::GuestMemory& memory, const VringAddr& addresses, uint16_t size,
             virtio::PackedRing& ring) {
  using virtio::PackedRing;
  ring.size = size;
  int error = FindPart(memory, addresses.descriptors, PackedRing::DescriptorBytes(size),
                       PackedRing::kDescriptorAlignment, ring.descriptors);
  if (error != 0) return error;
  error = FindPart(memory, addresses.available, PackedRing::kEventBytes,
                   PackedRing::kEventAlignment, ring.driver_event);
  if (error != 0) return error;
  return FindPart(memory, addresses.used, PackedRing::kEventBytes, PackedRing::kEventAlignment,
                  ring.device_event);
}

}  // namespace sma::storage_target::vhost_user
