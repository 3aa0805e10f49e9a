// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "storage_target/bdev/bdev.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/vhost_user/protocol.h"
#include "storage_target/virtio/blk_device.h"
#include "storage_target/virtio/blk_queue.h"
#include "storage_target/virtio/event_fd.h"
#include "storage_target/virtio/guest_memory.h"
#include "storage_target/virtio/virtqueue.h"

namespace sma::storage_target::vhost_user {

/// The parameters that all vrings of a front end share when they start.
struct VringEnvironment {
  std::shared_ptr<const virtio::GuestMemory> memory;
  /// The memory in which in-flight requests are recorded, with one part for each queue, each for a
  /// queue size of `inflight_queue_size`. Null if they are not recorded.
  std::shared_ptr<const virtio::SharedMapping> inflight;
  uint16_t inflight_queue_size = 0;
  uint64_t features = 0;  // negotiated by the driver
  std::shared_ptr<virtio::PeerNotifier> notifier;
  int front_end_socket = -1;  // outlives the vrings

  /// Returns true if the virtqueues are packed.
  bool packed() const { return (features & Bit(virtio::kRingPacked)) != 0; }
  /// Returns the size in bytes of one queue's part of the inflight buffer.
  size_t InflightRegionBytes() const;

  bdev::Descriptor* descriptor = nullptr;
};

/// A vring of a front end: its parameters and, while it runs, its queue on the I/O reactor to which
/// it belongs. All methods are called on the control reactor; callbacks run there. Must not be
/// destroyed while it runs.
class Vring {
 public:
  static constexpr uint16_t kMaxSize = 1024;
  enum EventFdKind : uint8_t { kKick, kCall, kError };

  /// `turn` belongs to the guest and to `reactor`.
  Vring(uint16_t index, Reactor& control, Reactor& reactor, std::shared_ptr<virtio::GuestTurn> turn)
      : index_(index), control_(control), reactor_(reactor), turn_(std::move(turn)) {}
  ~Vring();
  Vring(const Vring&) = delete;
  Vring& operator=(const Vring&) = delete;

  /// Returns true if a vring can have `size` descriptors.
  static bool IsValidSize(uint32_t size, bool packed) {
    return size > 0 && size <= kMaxSize && (packed || std::has_single_bit(size));
  }

  // Set parameters that the front end has sent. They may be changed only while the vring is not
  // running.
  void SetSize(uint16_t size) { size_ = size; }
  void SetBase(uint32_t base) { base_ = base; }
  void SetAddresses(const VringAddr& addresses);
  void SetKick(base::UniqueFd kick) {
    has_eventfd_[kKick] = static_cast<bool>(kick);
    event_fds_.kick = std::move(kick);
  }
  void SetEnabled(bool enabled) { enabled_ = enabled; }
  /// Must be called when no request is in flight and the front end knows the ring's position. The
  /// next start then uses the front end's base and ignores the inflight buffer.
  void IgnoreInflight() { ignore_inflight_ = true; }
  void Reset();

  // Both may be called while the vring runs, but not while it stops.
  void SetCall(base::UniqueFd call);
  void SetError(base::UniqueFd error);

  /// Returns true if the front end has sent this eventfd.
  bool has_eventfd(EventFdKind kind) const { return has_eventfd_[kind]; }
  /// Returns the number of eventfds that the front end has sent.
  size_t eventfd_count() const {
    return static_cast<size_t>(std::ranges::count(has_eventfd_, true));
  }

  /// Returns true if the front end has sent all parameters that are needed to start the vring, and
  /// it does not run.
  /// `enabled_by_default` applies if the front end has not sent SET_VRING_ENABLE.
  bool ready(bool enabled_by_default) const {
    return size_ != 0 && has_addresses_ && event_fds_.kick && enabled_.value_or(enabled_by_default);
  }
  bool running() const { return queue_ != nullptr; }
  /// Returns the number of outstanding requests; 0 if the vring is not running.
  uint32_t outstanding_requests() const { return running() ? queue_->outstanding() : 0; }
  /// Returns the ring's position (see Virtqueue::base). Must be called only while the vring is not
  /// running.
  uint32_t base() const { return base_; }
  Reactor& reactor() const { return reactor_; }

  /// Starts the vring, which must be ready. Returns 0; EFAULT if an address is
  /// outside guest memory; EINVAL if an address is misaligned, the inflight buffer is too small, or
  /// size and base are not valid for the ring's layout. `on_broken` is called if the driver
  /// violates the specification.
  int Start(const VringEnvironment& environment, const virtio::BlkDevice& device,
            std::function<void(std::string reason)> on_broken);
  /// Stops the vring, which from now on does not count as running. Calls `done` when it has no
  /// outstanding requests.
  void Stop(std::function<void()> done);
  /// Drops requests as BlkQueue::AbortRequests does. Must be called after Stop, whether or not it
  /// has completed.
  void AbortRequests();

  /// Must be called only while running().
  void AttachBdev(bdev::Descriptor& descriptor);
  /// Calls `done` when the queue has closed its channel and the descriptor passed to Start or
  /// AttachBdev is no longer used; even if the vring has been stopped since then.
  void DetachBdev(std::function<void()> done);

 private:
  int DescribeRing(const VringEnvironment& environment, virtio::Virtqueue::Options& options) const;

  const uint16_t index_;
  Reactor& control_;
  Reactor& reactor_;
  const std::shared_ptr<virtio::GuestTurn> turn_;
  uint16_t size_ = 0;
  uint32_t base_ = 0;
  bool ignore_inflight_ = false;
  std::optional<bool> enabled_;
  bool has_addresses_ = false;
  VringAddr addresses_{};
  std::array<bool, 3> has_eventfd_{};     // by EventFdKind
  virtio::BlkQueue::EventFds event_fds_;  // owned by the queue while the vring runs or stops
  virtio::BlkQueue* queue_ = nullptr;     // owned by the reactor, which destroys it after Stop
  // The queue that is being stopped; the inner pointer is null once the queue is destroyed. The
  // inner pointer is used only by the reactor.
  std::shared_ptr<virtio::BlkQueue*> stopping_;
};

}  // namespace sma::storage_target::vhost_user
