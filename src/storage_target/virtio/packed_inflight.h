// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "storage_target/virtio/packed_ring.h"

namespace sma::storage_target::virtio {

/// Like InflightQueue, for a packed virtqueue (vhost-user "Inflight I/O tracking",
/// "QueueRegionPacked" and "DescStatePacked"). Also records the descriptors of in-flight requests,
/// because used descriptors overwrite them on the ring. The memory is read only in the constructor
/// and only written afterwards.
class PackedInflight {
 public:
  /// Returns the size in bytes for a queue of `queue_size`, a multiple of 64.
  static size_t RegionBytes(uint16_t queue_size);

  /// Uses `region`, aligned to 8 bytes, zeroed or left by a previous process. Requests that the
  /// previous process was completing count as completed if the driver may have seen their
  /// completion on the ring. The region is reinitialised, with `base` as the position of the next
  /// used descriptor, if it is inconsistent or if `ignore_inflight` is set.
  PackedInflight(std::span<std::byte> region, const PackedRing& ring, PackedPosition base,
                 bool ignore_inflight);

  /// Returns true if the state of a previous process was restored from the region.
  bool recovered() const { return recovered_; }
  /// Returns the position of the next used descriptor on the ring.
  PackedPosition next_used() const { return next_used_; }

  struct Request {
    uint16_t id = 0;  // less than the ring size, unique
    std::vector<PackedDescriptor> descriptors = {};
    uint64_t counter = 0;
  };
  /// Returns the requests that the previous process took but did not complete, in the order in
  /// which they were taken; together they have no more descriptors than the ring. They stay
  /// recorded as in flight.
  std::vector<Request> TakeOutstanding() { return std::exchange(outstanding_, {}); }

  /// Records that the chain with buffer ID `id` was taken. The ID must not be in flight, and all
  /// in-flight requests together must not have more descriptors than the ring.
  void Take(uint16_t id, std::span<const PackedDescriptor> descriptors);
  /// Records that the next publication completes `id`.
  void PrepareCompletion(uint16_t id) { batch_.push_back(entry_of_[id]); }
  /// Must be called before the prepared completions are published; the next used descriptor is at
  /// `next_used` afterwards. No request may be taken until CommitCompletions.
  void BeginPublication(PackedPosition next_used);
  /// Must be called after the prepared completions were published.
  void CommitCompletions();

 private:
  struct Header;
  struct Entry;
  struct Positions;

  bool Recover(const PackedRing& ring);
  bool FindState(std::vector<bool>& seen);
  bool FindRequest(uint16_t head, std::vector<bool>& seen);
  void Initialise(PackedPosition base);

  Header* header_;
  Entry* entries_;
  uint16_t size_;
  PackedPosition next_used_;
  uint64_t next_counter_ = 0;
  bool recovered_ = false;
  std::vector<Request> outstanding_;
  // Copies of the region's contents, which are needed because the front end might change the
  // region.
  std::vector<uint16_t> next_;      // by entry; the list of free entries ends with `size_`
  std::vector<uint16_t> last_;      // by the first entry of a request: its last entry
  std::vector<uint16_t> entry_of_;  // by buffer ID of a request: its first entry
  uint16_t free_head_ = 0;
  std::vector<uint16_t>
      batch_;  // first entries of prepared requests; the capacity is the queue size
};

}  // namespace sma::storage_target::virtio
