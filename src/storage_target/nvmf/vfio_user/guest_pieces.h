// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sma::storage_target::nvmf::vfio_user {

/// A range of the host's memory, by its address in the host.
struct GuestPiece {
  uint64_t address = 0;
  uint64_t size_bytes = 0;
};

/// The ranges of host memory that hold a command's data, in order.
struct GuestPieces {
  static constexpr uint32_t kCapacity = 128;

  std::array<GuestPiece, kCapacity> list;
  uint32_t count = 0;
};

/// PRP lists and SGL segments that were fetched with messages, because they are in memory that the
/// host does not share.
class FetchedLists {
 public:
  static constexpr uint32_t kMaxLists = 64;
  static constexpr uint32_t kMaxBytes = 16384;  // limit for all lists of one command

  void Clear() { count_ = used_bytes_ = 0; }
  /// Returns the list with this address and size, or nullptr if it has not been fetched.
  const std::byte* Find(const GuestPiece& list) const {
    for (uint32_t i = 0; i < count_; ++i) {
      if (lists_[i].address == list.address && lists_[i].size_bytes == list.size_bytes)
        return &bytes_[offsets_[i]];
    }
    return nullptr;
  }
  /// Returns memory for another list; empty if there are too many.
  std::span<std::byte> Add(const GuestPiece& list) {
    if (count_ == kMaxLists || list.size_bytes > kMaxBytes - used_bytes_) return {};
    lists_[count_] = list;
    offsets_[count_++] = used_bytes_;
    const auto bytes = std::span(bytes_).subspan(used_bytes_, list.size_bytes);
    used_bytes_ += static_cast<uint32_t>(list.size_bytes);
    return bytes;
  }

 private:
  std::array<GuestPiece, kMaxLists> lists_;
  std::array<uint32_t, kMaxLists> offsets_;
  uint32_t count_ = 0;
  uint32_t used_bytes_ = 0;
  // Aligned, because PRP entries and SGL descriptors are read from it.
  alignas(16) std::array<std::byte, kMaxBytes> bytes_;
};

}  // namespace sma::storage_target::nvmf::vfio_user
