// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <variant>

#include "storage_target/virtio/chain.h"
#include "storage_target/virtio/inflight.h"
#include "storage_target/virtio/packed_inflight.h"
#include "storage_target/virtio/packed_queue.h"
#include "storage_target/virtio/split_queue.h"

namespace sma::storage_target::virtio {

class SharedMapping;

/// The device side of a virtqueue of either layout, with its inflight region. Not thread-safe. A
/// request is identified by its number, which is less than the queue size: the head of its chain in
/// a split virtqueue, or its buffer ID in a packed one.
class Virtqueue {
 public:
  struct Options {
    std::variant<SplitQueue::Options, PackedQueue::Options> ring;
    /// The memory in which in-flight requests are recorded; null if they are not recorded. If a
    /// previous process recorded requests, the queue continues from that state instead of from the
    /// ring's options.
    std::shared_ptr<const SharedMapping> inflight;
    size_t inflight_offset_bytes = 0;
    /// Ignores recorded requests and starts from the ring's options. Applies only to a packed
    /// virtqueue; a split one has its position in the used ring.
    bool ignore_inflight = false;
  };

  explicit Virtqueue(const Options& options);

  /// Calls `again` for each request that a previous process took but did not complete, in the order
  /// in which they were taken. Must be called once, before all methods below.
  void Resume(const std::function<void(uint16_t number)>& again);

  /// Returns true if Take has a result: a request, or the error of a broken ring.
  bool HasAvailable() const;
  /// Takes the next request and records it as in flight; nullopt if none is available.
  struct Taken {
    ChainError error = ChainError::kNone;  // after an error the queue can only complete requests
    uint16_t number = 0;
  };
  std::optional<Taken> Take();
  /// Reads the chain of the request that was taken last, or that Resume has just passed to `again`.
  ChainError ReadChain(uint16_t number, const GuestMemory& memory, Chain& chain) const;

  /// Completes a request; the driver sees it after PublishUsed.
  void PushUsed(uint16_t number, uint32_t written_bytes);
  /// Makes completed requests visible to the driver. Returns true if the driver wants to be
  /// notified.
  bool PublishUsed();

  /// Same contract as in SplitQueue. Check HasAvailable again after enabling.
  void EnableNotifications();
  void DisableNotifications();

  uint16_t size() const { return packed_ ? packed_->size() : split_->size(); }
  /// Returns vhost-user's "vring descriptor index": the position of the driver's next request; in a
  /// packed virtqueue the upper half is the position of the next used descriptor.
  uint32_t base() const;

 private:
  std::optional<Taken> TakeSplit();
  std::optional<Taken> TakePacked();
  void ResumeSplit(std::span<std::byte> region, const std::function<void(uint16_t)>& again);
  void ResumePacked(std::span<std::byte> region, const std::function<void(uint16_t)>& again);

  const Options options_;
  // Either the split or the packed pair is set.
  std::optional<SplitQueue> split_;
  std::optional<PackedQueue> packed_;
  std::optional<InflightQueue> split_inflight_;
  std::optional<PackedInflight> packed_inflight_;
};

}  // namespace sma::storage_target::virtio
