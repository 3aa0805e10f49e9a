#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sma::target::nvmf::vfio_user {

/// A part of the host's memory, by its address there.
struct GuestPiece {
  uint64_t address = 0;
  uint64_t size_bytes = 0;
};

/// Where a command's data are in the host's memory, one after another.
struct GuestPieces {
  static constexpr uint32_t kCapacity = 128;

  std::array<GuestPiece, kCapacity> list;
  uint32_t count = 0;
};

/// PRP lists and SGL segments that were fetched by messages, because the host does not share the
/// memory that they are in.
class FetchedLists {
 public:
  static constexpr uint32_t kMaxLists = 64;
  static constexpr uint32_t kMaxBytes = 16384;  // all that one command's lists may have

  void Clear() { count_ = used_bytes_ = 0; }
  /// The list of this address and size; nullptr when it is not there.
  const std::byte* Find(const GuestPiece& list) const {
    for (uint32_t i = 0; i < count_; ++i) {
      if (lists_[i].address == list.address && lists_[i].size_bytes == list.size_bytes)
        return &bytes_[offsets_[i]];
    }
    return nullptr;
  }
  /// The bytes of one more; none: there are too many.
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
  // The bytes of PRP entries and SGL descriptors are read as such.
  alignas(16) std::array<std::byte, kMaxBytes> bytes_;
};

}  // namespace sma::target::nvmf::vfio_user
