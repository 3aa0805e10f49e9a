#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "target/bdev/bdev.h"
#include "target/reactor/reactor.h"
#include "target/vhost_user/protocol.h"
#include "target/virtio/blk_device.h"
#include "target/virtio/blk_queue.h"
#include "target/virtio/guest_memory.h"
#include "target/virtio/virtqueue.h"

namespace sma::target::vhost_user {

/// What all vrings of a front end have in common when they start.
struct VringEnvironment {
  std::shared_ptr<const virtio::GuestMemory> memory;
  /// Where what is under way is noted: one part after another, each for a queue of
  /// `inflight_queue_size`. Null: nowhere.
  std::shared_ptr<const virtio::SharedMapping> inflight;
  uint16_t inflight_queue_size = 0;
  uint64_t features = 0;  // that the driver chose

  /// Whether the virtqueues are packed ones.
  bool packed() const { return (features & Bit(virtio::kRingPacked)) != 0; }
  /// The size of such a part.
  size_t InflightRegionBytes() const;

  bdev::Descriptor* descriptor = nullptr;
};

/// One vring of a front end: what the front end says about it and, while it runs, its queue in the
/// I/O reactor that it belongs to. All members are called in the control reactor; callbacks run
/// there. Destroyed when it does not run.
class Vring {
 public:
  static constexpr uint16_t kMaxSize = 1024;

  Vring(uint16_t index, Reactor& control, Reactor& reactor)
      : index_(index), control_(control), reactor_(reactor) {}
  ~Vring();
  Vring(const Vring&) = delete;
  Vring& operator=(const Vring&) = delete;

  /// Whether a vring can have so many descriptors.
  static bool IsSize(uint32_t size, bool packed) {
    return size > 0 && size <= kMaxSize && (packed || std::has_single_bit(size));
  }

  // What the front end says, to be changed while the vring does not run.
  void SetSize(uint16_t size) { size_ = size; }
  void SetBase(uint32_t base) { base_ = base; }
  void SetAddresses(const VringAddr& addresses);
  void SetKick(base::UniqueFd kick) { kick_ = std::move(kick); }
  void SetEnabled(bool enabled) { enabled_ = enabled; }
  /// Nothing is under way any more, and the front end knows where the ring stands: what it says
  /// next counts, and not what is noted.
  void BeginAnew() { begin_anew_ = true; }
  void Reset();

  // At any time.
  void SetCall(base::UniqueFd call);
  void SetError(base::UniqueFd error);

  /// Whether the front end has said all that is needed to start it. `enabled_by_default`: if it has
  /// not said whether it is enabled, it is.
  bool ready(bool enabled_by_default) const {
    return size_ != 0 && has_addresses_ && kick_ && enabled_.value_or(enabled_by_default);
  }
  bool running() const { return queue_ != nullptr; }
  /// Requests under way; 0 when it does not run.
  uint32_t outstanding_requests() const { return running() ? queue_->outstanding() : 0; }
  /// As of Virtqueue; of a vring that does not run.
  uint32_t base() const { return base_; }
  Reactor& reactor() const { return reactor_; }

  /// Starts it when it is ready and not running. 0, or EFAULT: the addresses are not in the guest's
  /// memory; EINVAL: misaligned, `inflight` is too small, or size and base are not such as the
  /// chosen layout has. `on_broken` runs if the driver does
  /// what it may not.
  int Start(const VringEnvironment& environment, const virtio::BlkDevice& device,
            std::function<void(std::string reason)> on_broken);
  /// Not running() from now on; `done` when nothing of it is under way any more.
  void Stop(std::function<void()> done);
  /// After Stop, whose end may or may not have come: what can still be left undone is, as of
  /// BlkQueue::AbortRequests.
  void AbortRequests();

  /// While running().
  void AttachBdev(bdev::Descriptor& descriptor);
  /// `done` when the queue has closed its channel, and the descriptor that Start or AttachBdev was
  /// given is not used any more: also if the vring has been stopped since.
  void DetachBdev(std::function<void()> done);

 private:
  int DescribeRing(const VringEnvironment& environment, virtio::Virtqueue::Options& options) const;

  const uint16_t index_;
  Reactor& control_;
  Reactor& reactor_;
  uint16_t size_ = 0;
  uint32_t base_ = 0;
  bool begin_anew_ = false;
  std::optional<bool> enabled_;
  bool has_addresses_ = false;
  VringAddr addresses_{};
  base::UniqueFd kick_;
  base::UniqueFd call_;
  base::UniqueFd error_;
  virtio::BlkQueue* queue_ = nullptr;  // the reactor's, which destroys it after Stop
  // The queue that was told to stop; null in there when it is destroyed. The content is the
  // reactor's.
  std::shared_ptr<virtio::BlkQueue*> stopping_;
};

}  // namespace sma::target::vhost_user
