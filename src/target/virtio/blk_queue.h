#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "target/bdev/bdev.h"
#include "target/reactor/reactor.h"
#include "target/virtio/blk_device.h"
#include "target/virtio/blk_request.h"
#include "target/virtio/guest_memory.h"
#include "target/virtio/virtqueue.h"

namespace sma::target::virtio {

/// A virtqueue of a virtio-blk device at work: takes requests from the ring, gives them to the bdev
/// with the guest's own memory as their buffers, answers many at once. Belongs to one reactor:
/// everything but the constructor happens in its thread. Nothing in the way of a request allocates
/// or blocks.
///
/// While there is work the ring is polled; without it for as long as the reactor polls, the queue
/// waits for the driver's notification and costs nothing.
///
/// What a driver may not do (see ChainError) ends this queue: it takes no more requests, notifies
/// the error descriptor, and tells `on_broken`.
class BlkQueue final : private Poller, private FdHandler {
 public:
  struct Options {
    Reactor* reactor = nullptr;
    std::shared_ptr<const GuestMemory> memory;
    Virtqueue::Options queue;
    bool write_through = false;
    base::UniqueFd kick;   // eventfd: requests are available
    base::UniqueFd call;   // eventfd: requests were answered; may be none
    base::UniqueFd error;  // eventfd: the queue is broken; may be none
    /// Called in the reactor's thread, once, when the queue breaks.
    std::function<void(std::string reason)> on_broken;
  };

  BlkQueue(Options options, const BlkDevice& device);
  /// After Stop has ended.
  ~BlkQueue() override;
  BlkQueue(const BlkQueue&) = delete;
  BlkQueue& operator=(const BlkQueue&) = delete;

  /// Begins, first with what is noted as under way. `descriptor` as in AttachBdev.
  void Start(bdev::Descriptor* descriptor);
  /// Takes no more requests; `done` when none is under way and all answers are published. `done`
  /// may destroy the queue.
  void Stop(std::function<void()> done);
  /// After Stop, because the front end is gone: what is not with the medium yet is left undone and
  /// unanswered. It stays noted as under way, so that a front end that comes back with the same
  /// memory has it done then.
  void AbortRequests();

  /// The bdev that requests go to; without one (null, or after DetachBdev) they end in an I/O
  /// error. `descriptor` is used during the call only.
  void AttachBdev(bdev::Descriptor* descriptor);
  /// Lets go of the bdev; `done` when it has.
  void DetachBdev(std::function<void()> done);

  /// As in Options; the driver is notified once, because the notification it waits for may have
  /// gone to the descriptor before.
  void SetCall(base::UniqueFd call);
  /// As in Options; notified at once when the queue is broken already.
  void SetError(base::UniqueFd error);
  /// The memory grew; what was there is still there.
  void SetMemory(std::shared_ptr<const GuestMemory> memory) { options_.memory = std::move(memory); }

  /// See Virtqueue.
  uint32_t base() const { return ring_.base(); }
  /// Requests under way. Any thread.
  uint32_t outstanding() const { return outstanding_.load(std::memory_order_relaxed); }

 private:
  struct Publisher : Deferred {
    BlkQueue* queue = nullptr;
  };

  bool Poll() override;
  bool PrepareSleep() override;
  void AfterSleep() override;
  void OnFdReady(uint32_t events) override;

  bool CheckMemory();
  void BeginPolling();
  void EndPolling();
  void TakeAvailable();
  void Process(uint16_t number);
  void set_outstanding(uint32_t count) { outstanding_.store(count, std::memory_order_relaxed); }
  void Answer(BlkRequest& request, uint8_t status);
  void Drop(BlkRequest& request);
  static void OnIoDone(bdev::Io& io, bdev::IoStatus status);
  void Publish();
  void NotifyDriver();
  void NotifyOfError();
  void EndWaits();
  void Break(std::string reason);

  Options options_;
  const BlkDevice device_;
  Virtqueue ring_;
  std::vector<BlkRequest> requests_;  // by number
  std::unique_ptr<bdev::Channel> channel_;
  Publisher publisher_;
  std::function<void()> on_stopped_;
  std::function<void()> on_detached_;
  uint64_t last_work_ns_ = 0;
  uint64_t poll_ns_ = 0;
  std::atomic<uint32_t> outstanding_{0};  // written by the reactor alone
  uint32_t seen_bus_errors_ = 0;
  bool unpublished_ = false;
  bool taking_ = false;   // in Poll: answers are published at its end
  bool polling_ = false;  // in the reactor's list of pollers
  bool watching_ = false;
  bool broken_ = false;
  bool dropping_ = false;  // aborted requests are not answered
};

}  // namespace sma::target::virtio
