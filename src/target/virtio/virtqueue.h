#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <variant>

#include "target/virtio/chain.h"
#include "target/virtio/inflight.h"
#include "target/virtio/packed_inflight.h"
#include "target/virtio/packed_queue.h"
#include "target/virtio/split_queue.h"

namespace sma::target::virtio {

class SharedMapping;

/// The device's side of a virtqueue of either layout, with the note of what is under way. One
/// thread's. A request is known by its number: the head of its chain in a split virtqueue, its
/// buffer ID in a packed one; less than the queue's size.
class Virtqueue {
 public:
  struct Options {
    std::variant<SplitQueue::Options, PackedQueue::Options> ring;
    /// Where what is under way is noted; null: nowhere. Where a predecessor noted something, the
    /// queue goes on there, and not where the ring's options say.
    std::shared_ptr<const SharedMapping> inflight;
    size_t inflight_offset_bytes = 0;
    /// Nothing is under way, whatever is noted: the ring's options say where to go on. Of a packed
    /// virtqueue only; a split one has its place in the used ring.
    bool begin_anew = false;
  };

  explicit Virtqueue(const Options& options);

  /// Begins: calls `again` for each request that a predecessor took and did not answer, in the
  /// order in which it was taken. To be called once, before all below.
  void Resume(const std::function<void(uint16_t number)>& again);

  /// Whether Take has something to tell: a request, or that the ring is broken.
  bool HasAvailable() const;
  /// Takes the next request, if there is one (else nullopt), and notes it.
  struct Taken {
    ChainError error = ChainError::kNone;  // the queue is of no use any more, but for answers
    uint16_t number = 0;
  };
  std::optional<Taken> Take();
  /// Reads the chain of the request that was taken last, or that Resume is at.
  ChainError ReadChain(uint16_t number, const GuestMemory& memory, Chain& chain) const;

  /// Answers a request, seen by the driver from PublishUsed on.
  void PushUsed(uint16_t number, uint32_t written_bytes);
  /// Shows the driver what was pushed. True when it wants to be notified of that.
  bool PublishUsed();

  /// As of the rings: after asking look at HasAvailable once more.
  void EnableNotifications();
  void DisableNotifications();

  uint16_t size() const { return packed_ ? packed_->size() : split_->size(); }
  /// vhost-user's "vring descriptor index": where the driver's next request stands, in a packed
  /// virtqueue with the place of the next answer in the upper half.
  uint32_t base() const;

 private:
  std::optional<Taken> TakeSplit();
  std::optional<Taken> TakePacked();
  void ResumeSplit(std::span<std::byte> region, const std::function<void(uint16_t)>& again);
  void ResumePacked(std::span<std::byte> region, const std::function<void(uint16_t)>& again);

  const Options options_;
  // One of the two, with its note.
  std::optional<SplitQueue> split_;
  std::optional<PackedQueue> packed_;
  std::optional<InflightQueue> split_inflight_;
  std::optional<PackedInflight> packed_inflight_;
};

}  // namespace sma::target::virtio
