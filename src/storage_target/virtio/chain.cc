// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/chain.h"

#include <algorithm>
#include <cstring>

#include "storage_target/virtio/guest_memory.h"

namespace sma::storage_target::virtio {

const char* ToString(ChainError error) {
  switch (error) {
    case ChainError::kNone:
      return "no error";
    case ChainError::kTooManyAvailable:
      return "more requests made available than the ring holds";
    case ChainError::kBadHead:
      return "a head or buffer ID out of range";
    case ChainError::kHeadInUse:
      return "a request made available again before its completion";
    case ChainError::kIncomplete:
      return "a chain that continues beyond the available descriptors";
    case ChainError::kBadIndex:
      return "a descriptor index beyond the end of its table";
    case ChainError::kTooLong:
      return "too many descriptors, or a loop";
    case ChainError::kBadAddress:
      return "an address outside guest memory";
    case ChainError::kBadOrder:
      return "a readable buffer after a writable one";
    case ChainError::kBadIndirect:
      return "an invalid indirect table";
  }
  return "unknown";
}

void Chain::Clear() {
  first_ = split_ = end_ = 0;
  readable_bytes_ = writable_bytes_ = 0;
}

ChainError Chain::Append(const GuestMemory& memory, uint64_t guest_address, uint32_t size_bytes,
                         bool writable) {
  if (!writable && end_ > split_) return ChainError::kBadOrder;
  uint64_t left = size_bytes;
  while (left > 0) {
    if (end_ == kMaxPieces) return ChainError::kTooLong;
    std::span<std::byte> piece = memory.Find(guest_address, left);
    if (piece.empty()) return ChainError::kBadAddress;
    pieces_[end_++] = {piece.data(), piece.size()};
    guest_address += piece.size();
    left -= piece.size();
  }
  if (writable) {
    writable_bytes_ += size_bytes;
  } else {
    readable_bytes_ += size_bytes;
    split_ = end_;
  }
  return ChainError::kNone;
}

bool Chain::TakeFront(void* copy, size_t size_bytes) {
  if (readable_bytes_ < size_bytes) return false;
  readable_bytes_ -= size_bytes;
  auto* to = static_cast<std::byte*>(copy);
  while (size_bytes > 0) {
    iovec& piece = pieces_[first_];
    const size_t part = std::min(size_bytes, piece.iov_len);
    std::memcpy(to, piece.iov_base, part);
    to += part;
    size_bytes -= part;
    piece.iov_base = static_cast<std::byte*>(piece.iov_base) + part;
    piece.iov_len -= part;
    if (piece.iov_len == 0) ++first_;
  }
  return true;
}

uint8_t* Chain::TakeLastByte() {
  if (writable_bytes_ == 0) return nullptr;
  --writable_bytes_;
  iovec& piece = pieces_[end_ - 1];
  auto* last = static_cast<uint8_t*>(piece.iov_base) + --piece.iov_len;
  if (piece.iov_len == 0) --end_;
  return last;
}

size_t CopyTo(std::span<const iovec> pieces, std::span<const std::byte> bytes) {
  size_t copied = 0;
  for (const iovec& piece : pieces) {
    const size_t part = std::min(piece.iov_len, bytes.size() - copied);
    std::memcpy(piece.iov_base, bytes.data() + copied, part);
    copied += part;
  }
  return copied;
}

}  // namespace sma::storage_target::virtio
