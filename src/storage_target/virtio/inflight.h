// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sma::storage_target::virtio {

/// The version of an inflight region, for both ring layouts; 0 in an empty region.
inline constexpr uint16_t kInflightVersion = 1;

/// Returns the size in bytes of a header with its entries, rounded up to a multiple of 64.
constexpr size_t InflightRegionBytes(size_t header_bytes, size_t entry_bytes, uint16_t queue_size) {
  constexpr size_t kAlignment = 64;
  return (header_bytes + entry_bytes * queue_size + kAlignment - 1) / kAlignment * kAlignment;
}

/// Records the in-flight requests of a split virtqueue in memory that outlives this program, so
/// that the next process can resubmit requests that were not completed (vhost-user "Inflight I/O
/// tracking"). The memory is shared with the front end, which may have written anything there:
/// everything read from it is checked. Not thread-safe.
class InflightQueue {
 public:
  /// Returns the size in bytes for a queue of `queue_size`, a multiple of 64.
  static size_t RegionBytes(uint16_t queue_size);

  /// Uses `region`, zeroed or left by a previous process, for a queue of `queue_size`. `used_index`
  /// is the index in the used ring. Requests that the previous process was completing count as
  /// completed if the driver may have seen their completion. An inconsistent region is
  /// reinitialised.
  InflightQueue(std::span<std::byte> region, uint16_t queue_size, uint16_t used_index);

  /// Returns the heads that were taken but not completed, in the order in which they were taken.
  /// They stay marked as in flight.
  std::vector<uint16_t> Outstanding() const;

  /// Records that `head` (less than the queue size) was taken.
  void Take(uint16_t head);
  /// Records that the next publication of the used ring completes `head`.
  void PrepareCompletion(uint16_t head);
  /// Must be called after the used ring has been published with this index: all prepared heads are
  /// then completed.
  void CommitCompletions(uint16_t used_index);

 private:
  struct Header;
  struct Entry;

  bool IsUsable() const;
  void Initialise(uint16_t used_index);
  void FinishLastBatch(uint16_t used_index);

  Header* header_;
  Entry* entries_;
  uint16_t queue_size_;
  uint64_t next_counter_ = 0;
  std::vector<uint16_t> batch_;  // prepared heads; the capacity is the queue size
};

}  // namespace sma::storage_target::virtio
