// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sma::storage_target::virtio {

class GuestMemory;

/// The reason why a descriptor chain is invalid (Virtio 1.2 §2.7.4, §2.7.5, §2.8.6, §2.8.7).
enum class ChainError : uint8_t {
  kNone,
  kTooManyAvailable,  // more chains than the ring can hold
  kBadHead,           // a head or buffer ID out of range
  kHeadInUse,         // belongs to another chain that is not completed
  kIncomplete,        // a chain that continues beyond the available descriptors
  kBadIndex,          // a descriptor index beyond the end of its table
  kTooLong,           // more descriptors than the device supports, or a loop
  kBadAddress,        // an address outside guest memory
  kBadOrder,          // a device-readable buffer after a device-writable one
  kBadIndirect,  // an indirect table of invalid size, nested, or followed by another descriptor
};

const char* ToString(ChainError error);

/// The buffers of one request, mapped into this process: first the device-readable, then the
/// device-writable ones.
class Chain {
 public:
  /// The maximum numbers of descriptors in a chain and of memory pieces. A buffer that spans
  /// several regions of guest memory consists of several pieces.
  static constexpr uint32_t kMaxDescriptors = 128;
  static constexpr uint32_t kMaxPieces = 136;

  void Clear();

  /// Appends `size_bytes` at `guest_address`. A readable buffer (`writable` false) must not follow
  /// a writable one.
  ChainError Append(const GuestMemory& memory, uint64_t guest_address, uint32_t size_bytes,
                    bool writable);

  uint64_t readable_bytes() const { return readable_bytes_; }
  uint64_t writable_bytes() const { return writable_bytes_; }
  /// Returns the remaining pieces. They are guest memory and may change at any time.
  std::span<iovec> readable() { return {&pieces_[first_], split_ - first_}; }
  std::span<iovec> writable() { return {&pieces_[split_], end_ - split_}; }

  /// Copies the first `size_bytes` of the readable bytes to `copy` and removes them from the chain.
  /// Returns false and changes nothing if there are fewer.
  bool TakeFront(void* copy, size_t size_bytes);
  /// Removes the last writable byte from the chain. Returns its address, or nullptr if there is
  /// none.
  uint8_t* TakeLastByte();

 private:
  std::array<iovec, kMaxPieces> pieces_;
  uint32_t first_ = 0;  // first readable piece
  uint32_t split_ = 0;  // first writable piece
  uint32_t end_ = 0;
  uint64_t readable_bytes_ = 0;
  uint64_t writable_bytes_ = 0;
};

/// Copies as many of `bytes` to the beginning of `pieces` as fit; returns the number of bytes
/// copied.
size_t CopyTo(std::span<const iovec> pieces, std::span<const std::byte> bytes);

}  // namespace sma::storage_target::virtio
