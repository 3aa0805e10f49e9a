#include "target/nvmf/vfio_user/data_pointer.h"

#include <algorithm>
#include <cstring>

#include "target/nvme/property.h"
#include "target/virtio/shared_fields.h"

namespace sma::target::nvmf::vfio_user {
namespace {

using nvme::Sgl;
using nvme::SglType;
using nvme::Status;
using virtio::Fetch;

constexpr uint64_t kPageSize = nvme::kMinPageSize;
constexpr uint64_t kPageMask = kPageSize - 1;
// No sound command comes near.
constexpr uint32_t kMaxSglSegments = 64;
constexpr uint32_t kMaxSglDescriptors = 1024;

// Walks over host memory and collects what it finds.
class Collector {
 public:
  Collector(const DmaMap& memory, DmaAccessMode mode, Pieces& pieces)
      : memory_(memory), mode_(mode), pieces_(pieces) {}

  Status Add(uint64_t address, uint64_t size_bytes) {
    while (size_bytes > 0) {
      const std::span<std::byte> found = memory_.Find(address, size_bytes, mode_);
      if (found.empty()) return Status::kDataTransferError;
      if (!Append(found)) return Status::kInvalidNumberOfSglDescriptors;
      address += found.size();
      size_bytes -= found.size();
    }
    return Status::kSuccess;
  }

 private:
  bool Append(std::span<std::byte> found) {
    if (pieces_.count > 0) {
      iovec& last = pieces_.list[pieces_.count - 1];
      if (static_cast<std::byte*>(last.iov_base) + last.iov_len == found.data()) {
        last.iov_len += found.size();
        return true;
      }
    }
    if (pieces_.count == pieces_.capacity) return false;
    pieces_.list[pieces_.count++] = {found.data(), found.size()};
    return true;
  }

  const DmaMap& memory_;
  const DmaAccessMode mode_;
  Pieces& pieces_;
};

// The entries of PRP lists, NVMe Base 2.0 §4.1.1. A pointer from one list to the next has no
// offset, so each list but the first is a whole page and the walk comes to an end.
Status LocatePrpList(const DmaMap& memory, uint64_t list, uint64_t size_bytes,
                     Collector& collector) {
  if (list % sizeof(uint64_t) != 0) return Status::kInvalidPrpOffset;
  while (true) {
    const uint64_t room = (kPageSize - (list & kPageMask)) / sizeof(uint64_t);
    const uint64_t pages = (size_bytes + kPageSize - 1) / kPageSize;
    const uint64_t count = std::min(room, pages);
    const std::byte* entries =
        memory.Translate(list, count * sizeof(uint64_t), DmaAccessMode::kRead);
    if (entries == nullptr) return Status::kDataTransferError;
    const bool chained = count < pages;
    for (uint64_t i = 0; i < count; ++i) {
      const auto entry = Fetch<uint64_t>(entries + i * sizeof(uint64_t));
      if ((entry & kPageMask) != 0) return Status::kInvalidPrpOffset;
      if (chained && i + 1 == count) {
        list = entry;
        break;
      }
      const uint64_t part = std::min(size_bytes, kPageSize);
      if (Status status = collector.Add(entry, part); status != Status::kSuccess) return status;
      size_bytes -= part;
    }
    if (size_bytes == 0) return Status::kSuccess;
  }
}

Status LocatePrps(const DmaMap& memory, const nvme::Command& command, uint64_t size_bytes,
                  Collector& collector) {
  const uint64_t prp1 = command.sgl.address;
  const uint64_t prp2 = Prp2Of(command);
  if (prp1 % 4 != 0) return Status::kInvalidPrpOffset;
  const uint64_t first = std::min(size_bytes, kPageSize - (prp1 & kPageMask));
  if (Status status = collector.Add(prp1, first); status != Status::kSuccess) return status;
  size_bytes -= first;
  if (size_bytes == 0) return Status::kSuccess;
  if (size_bytes > kPageSize) return LocatePrpList(memory, prp2, size_bytes, collector);
  if ((prp2 & kPageMask) != 0) return Status::kInvalidPrpOffset;
  return collector.Add(prp2, size_bytes);
}

// SGLs, NVMe Base 2.0 §4.1.2.
class SglWalk {
 public:
  SglWalk(const DmaMap& memory, uint64_t size_bytes, Collector& collector)
      : memory_(memory), left_bytes_(size_bytes), collector_(collector) {}

  Status Run(Sgl descriptor) {
    if (descriptor.type == SglType::kDataBlockAddress) {
      Status status = AddBlock(descriptor);
      return status == Status::kSuccess && left_bytes_ != 0 ? Status::kDataSglLengthInvalid
                                                            : status;
    }
    for (uint32_t i = 0; i < kMaxSglSegments; ++i) {
      const bool last = descriptor.type == SglType::kLastSegment;
      if (!last && descriptor.type != SglType::kSegment) return Status::kSglDescriptorTypeInvalid;
      Status status = WalkSegment(last, descriptor);
      if (status != Status::kSuccess) return status;
      if (last) return left_bytes_ == 0 ? Status::kSuccess : Status::kDataSglLengthInvalid;
    }
    return Status::kInvalidNumberOfSglDescriptors;
  }

 private:
  Status AddBlock(const Sgl& block) {
    if (block.length > left_bytes_) return Status::kDataSglLengthInvalid;
    left_bytes_ -= block.length;
    return collector_.Add(block.address, block.length);
  }

  // `descriptor` becomes the one of the next segment, unless this is the last.
  Status WalkSegment(bool last, Sgl& descriptor) {
    const uint32_t count = descriptor.length / sizeof(Sgl);
    if (count == 0 || descriptor.length % sizeof(Sgl) != 0)
      return Status::kInvalidSglSegmentDescriptor;
    descriptor_count_ += count;
    if (count > kMaxSglDescriptors || descriptor_count_ > kMaxSglDescriptors)
      return Status::kInvalidNumberOfSglDescriptors;
    const std::byte* segment =
        memory_.Translate(descriptor.address, descriptor.length, DmaAccessMode::kRead);
    if (segment == nullptr) return Status::kDataTransferError;
    const uint32_t blocks = last ? count : count - 1;
    for (uint32_t i = 0; i < blocks; ++i) {
      const auto block = Fetch<Sgl>(segment + i * sizeof(Sgl));
      if (block.type != SglType::kDataBlockAddress) return Status::kSglDescriptorTypeInvalid;
      if (Status status = AddBlock(block); status != Status::kSuccess) return status;
    }
    if (!last) descriptor = Fetch<Sgl>(segment + blocks * sizeof(Sgl));
    return Status::kSuccess;
  }

  const DmaMap& memory_;
  uint64_t left_bytes_;
  Collector& collector_;
  uint32_t descriptor_count_ = 0;
};

}  // namespace

uint64_t Prp2Of(const nvme::Command& command) {
  uint64_t prp2;
  std::memcpy(&prp2, reinterpret_cast<const std::byte*>(&command.sgl) + 8, sizeof prp2);
  return prp2;
}

Status LocateData(const DmaMap& memory, const nvme::Command& command, uint32_t size_bytes,
                  DmaAccessMode mode, Pieces& pieces) {
  Collector collector(memory, mode, pieces);
  if ((command.flags & nvme::kPsdtMask) == nvme::kPsdtPrp)
    return LocatePrps(memory, command, size_bytes, collector);
  return SglWalk(memory, size_bytes, collector).Run(command.sgl);
}

}  // namespace sma::target::nvmf::vfio_user
