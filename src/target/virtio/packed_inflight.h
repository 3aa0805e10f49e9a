#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "target/virtio/packed_ring.h"

namespace sma::target::virtio {

/// As InflightQueue, for a packed virtqueue (vhost-user "Inflight I/O tracking",
/// "QueueRegionPacked" and "DescStatePacked"). Keeps the descriptors of what is under way too,
/// because the ring has answers in their place. The memory is read when the queue begins and only
/// written afterwards.
class PackedInflight {
 public:
  /// Bytes for one queue of `queue_size`, a multiple of 64.
  static size_t RegionBytes(uint16_t queue_size);

  /// Uses `region`, aligned to 8, zeroed or left by a predecessor. What the predecessor had begun
  /// to answer counts as answered if the driver could see it on the ring. A region that makes no
  /// sense, or any with `begin_anew`, is begun anew, with `base` as the place of the next answer.
  PackedInflight(std::span<std::byte> region, const PackedRing& ring, PackedPosition base,
                 bool begin_anew);

  /// Whether the region was left by a predecessor and is gone on with.
  bool recovered() const { return recovered_; }
  /// Where the next answer goes on the ring, and what is not answered begins.
  PackedPosition next_used() const { return next_used_; }

  struct Request {
    uint16_t id = 0;  // less than the ring's size, each one's its own
    std::vector<PackedDescriptor> descriptors = {};
    uint64_t counter = 0;
  };
  /// What the predecessor had taken and not answered, in the order in which it was taken; together
  /// no more descriptors than the ring has. Still marked so.
  std::vector<Request> TakeUnanswered() { return std::exchange(unanswered_, {}); }

  /// Notes that the chain with buffer ID `id` was taken; there is none with that ID and no more
  /// descriptors under way than the ring has.
  void Take(uint16_t id, std::span<const PackedDescriptor> descriptors);
  /// Notes that it is among those that the next publication answers.
  void PrepareAnswer(uint16_t id) { batch_.push_back(entry_of_[id]); }
  /// What was prepared is about to be published; the next answer goes to `next_used` then. Until
  /// CommitAnswers nothing is taken.
  void BeginPublication(PackedPosition next_used);
  /// It was published.
  void CommitAnswers();

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
  std::vector<Request> unanswered_;
  // What the region says too, where the front end might change it.
  std::vector<uint16_t> next_;      // by entry; the list of free ones ends with `size_`
  std::vector<uint16_t> last_;      // by the first entry of a request: its last one
  std::vector<uint16_t> entry_of_;  // by buffer ID of a request: its first entry
  uint16_t free_head_ = 0;
  std::vector<uint16_t> batch_;  // first entries, prepared; its capacity is the queue's size
};

}  // namespace sma::target::virtio
