#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sma::target::virtio {

/// The version of such memory, for a queue of either layout; 0: nothing is in it.
inline constexpr uint16_t kInflightVersion = 1;

/// The bytes that a header and entries take, rounded up to a multiple of 64.
constexpr size_t InflightRegionBytes(size_t header_bytes, size_t entry_bytes, uint16_t queue_size) {
  constexpr size_t kAlignment = 64;
  return (header_bytes + entry_bytes * queue_size + kAlignment - 1) / kAlignment * kAlignment;
}

/// What is under way in one split virtqueue, kept in memory that outlives this program, so that its
/// successor does again what was not answered (vhost-user "Inflight I/O tracking"). The memory is
/// shared with the front end, which may have written anything there: what is read is checked. One
/// thread's.
class InflightQueue {
 public:
  /// Bytes for one queue of `queue_size`, a multiple of 64.
  static size_t RegionBytes(uint16_t queue_size);

  /// Uses `region`, zeroed or left by a predecessor, for a queue of `queue_size`. `used_index` is
  /// the used ring's. What a predecessor had begun to answer counts as answered if the driver could
  /// see it. A region that makes no sense is begun anew.
  InflightQueue(std::span<std::byte> region, uint16_t queue_size, uint16_t used_index);

  /// Heads that were taken and not answered, in the order in which they were taken. They are still
  /// marked so.
  std::vector<uint16_t> Unanswered() const;

  /// Notes that `head` (less than the queue's size) was taken.
  void Take(uint16_t head);
  /// Notes that `head` is among those that the next publication of the used ring answers.
  void PrepareAnswer(uint16_t head);
  /// The used ring was published, with this index: what was prepared is answered.
  void CommitAnswers(uint16_t used_index);

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
  std::vector<uint16_t> batch_;  // prepared; its capacity is the queue's size
};

}  // namespace sma::target::virtio
