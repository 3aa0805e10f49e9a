#include "target/vhost_user/ring_address.h"

#include <cerrno>
#include <cstddef>

namespace sma::target::vhost_user {
namespace {

// `part` is set to what lies at `address`. Looks at the alignment here too: a front end may map a
// file at an address that is less aligned than ours.
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

}  // namespace sma::target::vhost_user
