// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/vfio_user/data_pointer.h"

#include <algorithm>
#include <cstring>

#include "storage_target/nvme/property.h"
#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::nvmf::vfio_user {
namespace {

using nvme::Sgl;
using nvme::SglType;
using nvme::Status;
using virtio::Fetch;

constexpr uint64_t kPageSize = nvme::kMinPageSize;
constexpr uint64_t kPageMask = kPageSize - 1;
// Limits that no valid command approaches.
constexpr uint32_t kMaxSglSegments = 64;
constexpr uint32_t kMaxSglDescriptors = 1024;

// A walk over a data pointer uses a view with this interface: Add receives the next part of the
// data; List returns the bytes of a PRP list or an SGL segment, or nullptr if they are not
// available.

// Collects the addresses of the data in this process's memory.
class Collector {
 public:
  Collector(const DmaMap& memory, DmaAccessMode mode, Pieces& pieces)
      : memory_(memory), mode_(mode), pieces_(pieces) {}

  Status Add(uint64_t address, uint64_t size_bytes) {
    while (size_bytes > 0) {
      const std::span<std::byte> found = memory_.Find(address, size_bytes, mode_);
      if (found.empty()) {
        unshared_ = memory_.UnsharedBytes(address, 1, mode_) != 0;
        return Status::kDataTransferError;
      }
      if (!Append(found)) return Status::kInvalidNumberOfSglDescriptors;
      address += found.size();
      size_bytes -= found.size();
    }
    return Status::kSuccess;
  }

  const std::byte* List(uint64_t address, uint64_t size_bytes) {
    const std::byte* list = memory_.Translate(address, size_bytes, DmaAccessMode::kRead);
    if (list == nullptr) unshared_ = memory_.UnsharedBytes(address, 1, DmaAccessMode::kRead) != 0;
    return list;
  }

  // Returns true if the walk ended because it reached memory that the host does not share.
  bool unshared() const { return unshared_; }

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
  bool unshared_ = false;
};

// Collects the host's addresses of the data.
class Describer {
 public:
  Describer(const DmaMap& memory, const FetchedLists& fetched, GuestPieces& pieces)
      : memory_(memory), fetched_(fetched), pieces_(pieces) {}

  Status Add(uint64_t address, uint64_t size_bytes) {
    if (size_bytes == 0) return Status::kSuccess;
    if (pieces_.count > 0) {
      GuestPiece& last = pieces_.list[pieces_.count - 1];
      if (last.address + last.size_bytes == address) {
        last.size_bytes += size_bytes;
        return Status::kSuccess;
      }
    }
    if (pieces_.count == GuestPieces::kCapacity) return Status::kInvalidNumberOfSglDescriptors;
    pieces_.list[pieces_.count++] = {address, size_bytes};
    return Status::kSuccess;
  }

  const std::byte* List(uint64_t address, uint64_t size_bytes) {
    if (const auto* shared = memory_.Translate(address, size_bytes, DmaAccessMode::kRead))
      return shared;
    const GuestPiece list{address, size_bytes};
    const std::byte* fetched = fetched_.Find(list);
    const bool can_be_fetched =
        memory_.UnsharedBytes(address, size_bytes, DmaAccessMode::kRead) == size_bytes;
    if (fetched == nullptr && can_be_fetched) missing_ = list;
    return fetched;
  }

  const GuestPiece& missing() const { return missing_; }

 private:
  const DmaMap& memory_;
  const FetchedLists& fetched_;
  GuestPieces& pieces_;
  GuestPiece missing_;
};

// Walks the entries of PRP lists, NVMe Base 2.0 §4.1.1. A pointer from one list to the next has no
// offset, so each list except the first is a whole page, and the walk terminates.
template <typename View>
Status WalkPrpList(uint64_t list, uint64_t size_bytes, View& view) {
  if (list % sizeof(uint64_t) != 0) return Status::kInvalidPrpOffset;
  while (true) {
    const uint64_t room = (kPageSize - (list & kPageMask)) / sizeof(uint64_t);
    const uint64_t pages = (size_bytes + kPageSize - 1) / kPageSize;
    const uint64_t count = std::min(room, pages);
    const std::byte* entries = view.List(list, count * sizeof(uint64_t));
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
      if (Status status = view.Add(entry, part); status != Status::kSuccess) return status;
      size_bytes -= part;
    }
    if (size_bytes == 0) return Status::kSuccess;
  }
}

template <typename View>
Status WalkPrps(const nvme::Command& command, uint64_t size_bytes, View& view) {
  const uint64_t prp1 = command.sgl.address;
  const uint64_t prp2 = Prp2Of(command);
  if (prp1 % 4 != 0) return Status::kInvalidPrpOffset;
  const uint64_t first = std::min(size_bytes, kPageSize - (prp1 & kPageMask));
  if (Status status = view.Add(prp1, first); status != Status::kSuccess) return status;
  size_bytes -= first;
  if (size_bytes == 0) return Status::kSuccess;
  if (size_bytes > kPageSize) return WalkPrpList(prp2, size_bytes, view);
  if ((prp2 & kPageMask) != 0) return Status::kInvalidPrpOffset;
  return view.Add(prp2, size_bytes);
}

// Walks SGLs, NVMe Base 2.0 §4.1.2.
template <typename View>
class SglWalk {
 public:
  SglWalk(uint64_t size_bytes, View& view) : left_bytes_(size_bytes), view_(view) {}

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
    return view_.Add(block.address, block.length);
  }

  // Sets `descriptor` to that of the next segment unless this is the last segment.
  Status WalkSegment(bool last, Sgl& descriptor) {
    const uint32_t count = descriptor.length / sizeof(Sgl);
    if (count == 0 || descriptor.length % sizeof(Sgl) != 0)
      return Status::kInvalidSglSegmentDescriptor;
    descriptor_count_ += count;
    if (count > kMaxSglDescriptors || descriptor_count_ > kMaxSglDescriptors)
      return Status::kInvalidNumberOfSglDescriptors;
    const std::byte* segment = view_.List(descriptor.address, descriptor.length);
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

  uint64_t left_bytes_;
  View& view_;
  uint32_t descriptor_count_ = 0;
};

template <typename View>
Status Walk(const nvme::Command& command, uint32_t size_bytes, View& view) {
  if ((command.flags & nvme::kPsdtMask) == nvme::kPsdtPrp)
    return WalkPrps(command, size_bytes, view);
  return SglWalk(size_bytes, view).Run(command.sgl);
}

}  // namespace

uint64_t Prp2Of(const nvme::Command& command) {
  uint64_t prp2;
  std::memcpy(&prp2, reinterpret_cast<const std::byte*>(&command.sgl) + 8, sizeof prp2);
  return prp2;
}

Status LocateData(const DmaMap& memory, const nvme::Command& command, uint32_t size_bytes,
                  DmaAccessMode mode, Pieces& pieces, bool& unshared) {
  Collector collector(memory, mode, pieces);
  const Status status = Walk(command, size_bytes, collector);
  unshared = collector.unshared();
  return status;
}

Status DescribeData(const DmaMap& memory, const FetchedLists& fetched, const nvme::Command& command,
                    uint32_t size_bytes, GuestPieces& pieces, GuestPiece& missing) {
  pieces.count = 0;
  Describer describer(memory, fetched, pieces);
  const Status status = Walk(command, size_bytes, describer);
  missing = describer.missing();
  return status;
}

}  // namespace sma::storage_target::nvmf::vfio_user
