// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "storage_target/bdev/bdev.h"
#include "storage_target/reactor/peer_watch.h"
#include "storage_target/reactor/reactor.h"
#include "storage_target/virtio/blk_device.h"
#include "storage_target/virtio/blk_request.h"
#include "storage_target/virtio/event_fd.h"
#include "storage_target/virtio/guest_memory.h"
#include "storage_target/virtio/guest_turn.h"
#include "storage_target/virtio/virtqueue.h"

namespace sma::storage_target::virtio {

/// Processes one virtqueue of a virtio-blk device: takes requests from the ring, submits them to
/// the bdev with the guest's memory as buffers, and completes them in batches. Owned by one
/// reactor: all functions except the constructor run on its thread. The path of a request neither
/// allocates nor blocks.
///
/// The ring is polled while there is work. After the reactor's polling time without work the queue
/// waits for the driver's notification and uses no CPU time.
///
/// If the driver violates the specification (see ChainError), the queue is broken: it takes no more
/// requests, signals the error descriptor and calls `on_broken`.
class BlkQueue final : private Poller, private FdHandler, private DelayWatch {
 public:
  struct EventFds {
    base::UniqueFd kick;   // requests are available
    base::UniqueFd call;   // requests were completed; optional
    base::UniqueFd error;  // the queue is broken; optional
  };
  struct Options {
    Reactor* reactor = nullptr;
    std::shared_ptr<const GuestMemory> memory;
    Virtqueue::Options queue;
    bool write_through = false;
    /// The connection of the front end, which must outlive the queue. Available requests are not
    /// taken if it is closed.
    int front_end_socket = -1;
    EventFds event_fds;
    std::shared_ptr<PeerNotifier> notifier;  // of the guest
    std::shared_ptr<GuestTurn> turn;         // of the guest in this reactor
    /// Called in the reactor's thread when the queue breaks, and when it is broken and a write to
    /// its error descriptor blocked.
    std::function<void(std::string reason)> on_broken;
  };

  BlkQueue(Options options, const BlkDevice& device);
  /// May be called only after Stop has completed.
  ~BlkQueue() override;
  BlkQueue(const BlkQueue&) = delete;
  BlkQueue& operator=(const BlkQueue&) = delete;

  /// Starts with the requests that are recorded as in flight. For `descriptor` see AttachBdev.
  void Start(bdev::Descriptor* descriptor);
  /// Takes no more requests; calls `done` when no request is outstanding and all completions are
  /// published. `done` may destroy the queue.
  void Stop(std::function<void()> done);
  /// Must be called when the front end has disconnected. Drops requests that have not
  /// reached the medium without completing them. They remain recorded as in flight, so that they
  /// are executed when a front end reconnects with the same memory.
  void AbortRequests();

  /// Sets the bdev to which requests are submitted. Without a bdev (null, or after DetachBdev),
  /// they fail with an I/O error. `descriptor` is used only during the call.
  void AttachBdev(bdev::Descriptor* descriptor);
  /// Releases the bdev; calls `done` when no request uses it.
  void DetachBdev(std::function<void()> done);

  /// Replaces EventFds::call. Notifies the driver once, because an earlier notification may have
  /// been sent to the previous descriptor.
  void SetCall(base::UniqueFd call);
  /// Replaces EventFds::error. Signals it immediately if the queue is already broken.
  void SetError(base::UniqueFd error);
  /// Returns the eventfds, for a queue that replaces this one. May be called once, after Stop has
  /// completed.
  EventFds TakeEventFds() { return std::move(options_.event_fds); }
  /// Replaces the memory with a larger map that contains all regions of the previous one.
  void SetMemory(std::shared_ptr<const GuestMemory> memory) { options_.memory = std::move(memory); }

  /// See Virtqueue::base.
  uint32_t base() const { return ring_.base(); }
  /// Returns the number of outstanding requests. May be called from any thread.
  uint32_t outstanding() const { return outstanding_.load(std::memory_order_relaxed); }

 private:
  struct Publisher : Deferred {
    BlkQueue* queue = nullptr;
  };

  bool Poll() override;
  void OnDelay(uint64_t clock_ns) override;
  bool PrepareSleep() override;
  void AfterSleep() override;
  void OnFdReady(uint32_t events) override;

  bool CheckMemory();
  BlkRequest& RequestOf(uint16_t number);
  void BeginPolling();
  void EndPolling();
  void EndWatching();
  void TakeAvailable();
  void Process(uint16_t number);
  void set_outstanding(uint32_t count) { outstanding_.store(count, std::memory_order_relaxed); }
  void Complete(BlkRequest& request, uint8_t status);
  void Drop(BlkRequest& request);
  static void OnIoDone(bdev::Io& io, bdev::IoStatus status);
  void Publish();
  void NotifyDriver();
  void NotifyOfError();
  void NotifyWaiters();
  void BreakWithoutFrontEnd();
  void Break(std::string reason);

  Options options_;
  const BlkDevice device_;
  Virtqueue ring_;
  // The requests by number. Each is created when its number is first used: a ring of 1,024 would
  // otherwise write to 2 MiB of memory when it starts, and a front end can start 128 of them.
  struct Slot {
    alignas(BlkRequest) std::array<std::byte, sizeof(BlkRequest)> bytes;
  };
  const std::unique_ptr<Slot[]> slots_;
  std::vector<BlkRequest*> requests_;  // null: not created
  std::unique_ptr<bdev::Channel> channel_;
  Publisher publisher_;
  std::function<void()> on_stopped_;
  std::function<void()> on_detached_;
  PeerWatch front_end_watch_;
  uint64_t last_work_ns_ = 0;
  uint64_t poll_ns_ = 0;
  std::atomic<uint32_t> outstanding_{0};  // written only by the reactor
  uint32_t seen_bus_errors_ = 0;
  bool unpublished_ = false;
  bool taking_ = false;    // in Poll, which publishes completions at its end
  bool polling_ = false;   // registered as a poller of the reactor
  bool watching_ = false;  // registered for the kick descriptor and as a delay watch
  bool broken_ = false;
  bool dropping_ = false;  // aborted requests are not completed
};

}  // namespace sma::storage_target::virtio
