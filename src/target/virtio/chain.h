#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sma::target::virtio {

class GuestMemory;

/// Why a chain of descriptors is not one that a driver may make (Virtio 1.2 §2.7.4, §2.7.5, §2.8.6,
/// §2.8.7).
enum class ChainError : uint8_t {
  kNone,
  kTooManyAvailable,  // more than the ring holds
  kBadHead,           // a head, or a buffer ID, that the queue does not have
  kHeadInUse,         // of another chain that is not answered
  kIncomplete,        // a chain that goes on where nothing was made available
  kBadIndex,          // a descriptor beyond the end of its table
  kTooLong,           // more descriptors than the device takes, or a loop of them
  kBadAddress,        // memory that is not the guest's
  kBadOrder,          // memory to read from after memory to write to
  kBadIndirect,       // a table of a wrong size, within another one, or with something after it
};

const char* ToString(ChainError error);

/// The buffers of one request, in this process's memory: first what the device reads, then what it
/// writes.
class Chain {
 public:
  /// The most descriptors in a chain, and the most pieces of memory: a buffer that spans regions of
  /// the guest's memory is several.
  static constexpr uint32_t kMaxDescriptors = 128;
  static constexpr uint32_t kMaxPieces = 136;

  void Clear();

  /// Appends `size_bytes` at `guest_address`. None of it may be read from (`writable` false) after
  /// memory to write to was appended.
  ChainError Append(const GuestMemory& memory, uint64_t guest_address, uint32_t size_bytes,
                    bool writable);

  uint64_t readable_bytes() const { return readable_bytes_; }
  uint64_t writable_bytes() const { return writable_bytes_; }
  /// The pieces that are left; their memory is the guest's and may change at any time.
  std::span<iovec> readable() { return {&pieces_[first_], split_ - first_}; }
  std::span<iovec> writable() { return {&pieces_[split_], end_ - split_}; }

  /// Copies the first `size_bytes` of what is readable and takes them away. False, with nothing
  /// changed, when there are fewer.
  bool TakeFront(void* copy, size_t size_bytes);
  /// Takes the last byte of what is writable away: where it stands, or nullptr when there is none.
  uint8_t* TakeLastByte();

 private:
  std::array<iovec, kMaxPieces> pieces_;
  uint32_t first_ = 0;  // of the readable pieces
  uint32_t split_ = 0;  // the first writable piece
  uint32_t end_ = 0;
  uint64_t readable_bytes_ = 0;
  uint64_t writable_bytes_ = 0;
};

/// Copies `bytes` to the front of `pieces`, as far as they reach; how many were copied.
size_t CopyTo(std::span<const iovec> pieces, std::span<const std::byte> bytes);

}  // namespace sma::target::virtio
