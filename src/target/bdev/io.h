#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace sma::target::bdev {

class Channel;

enum class IoType : uint8_t { kRead, kWrite, kFlush, kUnmap, kWriteZeroes, kCompare };
inline constexpr size_t kIoTypeCount = 6;

/// How an I/O ended. Frontends map it to their own protocol's status.
enum class IoStatus : uint8_t {
  kOk,
  kFailed,       // the medium or the remote side failed
  kOutOfRange,   // beyond the last block
  kMiscompare,   // kCompare: the data differ
  kUnsupported,  // the bdev does not do this type
  kReadOnly,     // a write to a bdev that takes none, or through a descriptor opened to read
  kNoSpace,      // thin provisioned, and the file system below is full
  kGone,         // the bdev was removed
  kAborted,      // by a reset or by the submitter
};

/// Links of an IoQueue.
struct IoLink {
  IoLink* next = nullptr;
  IoLink* previous = nullptr;
};

/// One I/O. The submitter embeds it in its own request, fills the first part, calls Channel::Submit
/// and leaves it alone until `done`, which runs in the channel's reactor, possibly before Submit
/// returns. No part of this path allocates, blocks or throws.
struct Io : IoLink {
  // The submitter's.
  IoType type = IoType::kRead;
  bool fua = false;          // kWrite, kWriteZeroes: durable when done
  bool deallocate = false;   // kWriteZeroes: the blocks need no space until they are written again
  uint64_t lba = 0;          // in blocks of the bdev
  uint64_t block_count = 0;  // kFlush: 0 means all
  const iovec* iovs =
      nullptr;  // kRead, kWrite, kCompare: exactly block_count * block_size bytes in all
  uint32_t iov_count = 0;
  void (*done)(Io& self, IoStatus status) = nullptr;

  // The bdev layer's, from Submit to `done`.
  Channel* channel = nullptr;
  uint64_t submit_ns = 0;
  uint64_t due_ns = 0;               // when the limits let it go; 0: not known yet
  IoType requested = IoType::kRead;  // `type` as submitted, while it is another
  uint8_t phase = 0;

  // The module's, from DoSubmit to Complete; not initialised.
  alignas(16) std::array<std::byte, 160> scratch;
};

/// Counters of one bdev. Latencies are from Submit to `done`, in nanoseconds, as exact as a round
/// of the loop.
struct IoStats {
  struct PerType {
    uint64_t ops = 0;
    uint64_t bytes = 0;
    uint64_t latency_ns = 0;      // the sum
    uint64_t min_latency_ns = 0;  // 0: none counted yet
    uint64_t max_latency_ns = 0;
  };
  std::array<PerType, kIoTypeCount> by_type;
  uint64_t errors = 0;  // I/Os that ended in anything but kOk and kMiscompare

  IoStats& operator+=(const IoStats& other);
  const PerType& operator[](IoType type) const { return by_type[static_cast<size_t>(type)]; }
};

}  // namespace sma::target::bdev
