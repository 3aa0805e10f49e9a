// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/intrusive_list.h"

namespace sma::storage_target::bdev {

class Channel;

enum class IoType : uint8_t { kRead, kWrite, kFlush, kUnmap, kWriteZeroes, kCompare };
inline constexpr size_t kIoTypeCount = 6;

/// The result of an I/O. Frontends map it to their protocol's status.
enum class IoStatus : uint8_t {
  kOk,
  kFailed,       // the medium or the remote system failed
  kOutOfRange,   // beyond the last block
  kMiscompare,   // kCompare: the data differ
  kUnsupported,  // the bdev does not support this type
  kReadOnly,     // a write to a read-only bdev, or through a descriptor opened for reading
  kNoSpace,      // thin provisioned, and the file system below is full
  kGone,         // the bdev was removed
  kAborted,      // by a reset or by the submitter
};

/// One I/O. The submitter embeds it in its own request, sets the first group of members, calls
/// Channel::Submit, and does not touch it until `done` is called on the channel's reactor, possibly
/// before Submit returns. Nothing on this path allocates, blocks or throws.
struct Io : base::ListLink<Io> {  // while the bdev layer or the module has it
  // Set by the submitter.
  IoType type = IoType::kRead;
  bool fua = false;             // kWrite, kWriteZeroes: durable on completion
  bool deallocate = false;      // kWriteZeroes: the blocks need no space until they are written
  uint64_t lba = 0;             // in blocks of the bdev
  uint64_t block_count = 0;     // kFlush: 0 means all
  const iovec* iovs = nullptr;  // kRead, kWrite, kCompare: block_count * block_size bytes in total
  uint32_t iov_count = 0;
  void (*done)(Io& self, IoStatus status) = nullptr;

  // Used by the bdev layer from Submit to `done`.
  Channel* channel = nullptr;
  uint64_t submit_ns = 0;
  uint64_t due_ns = 0;               // when the limits permit it; 0 if not determined yet
  IoType requested = IoType::kRead;  // the submitted `type`, if another one is executed
  uint8_t phase = 0;
  uint8_t limited_by = 0;  // the limits under which due_ns was reserved, one bit each

  // Used by the module from DoSubmit to Complete. Not initialized.
  alignas(16) std::array<std::byte, 176> scratch;
};

/// Counters of one bdev. Latencies are measured from Submit to `done`, in nanoseconds, with a
/// resolution of one round of the loop.
struct IoStats {
  struct PerType {
    uint64_t ops = 0;
    uint64_t bytes = 0;
    uint64_t latency_ns = 0;      // the sum of all latencies
    uint64_t min_latency_ns = 0;  // 0 if none was counted
    uint64_t max_latency_ns = 0;
  };
  std::array<PerType, kIoTypeCount> by_type;
  uint64_t errors = 0;  // I/Os that ended in anything but kOk and kMiscompare

  IoStats& operator+=(const IoStats& other);
  const PerType& operator[](IoType type) const { return by_type[static_cast<size_t>(type)]; }
};

}  // namespace sma::storage_target::bdev
