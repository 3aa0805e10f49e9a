// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/blk_queue.h"

#include <sys/epoll.h>

#include <algorithm>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "storage_target/virtio/shared_fields.h"

namespace sma::storage_target::virtio {
namespace {

// The part of a turn that a request takes at least.
constexpr uint64_t kMinTurnBytes = 4096;

uint8_t BlkStatus(bdev::IoStatus status) {
  if (status == bdev::IoStatus::kOk) return VIRTIO_BLK_S_OK;
  return status == bdev::IoStatus::kUnsupported ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

}  // namespace

BlkQueue::BlkQueue(Options options, const BlkDevice& device)
    : options_(std::move(options)),
      device_(device),
      ring_(options_.queue),
      slots_(std::make_unique_for_overwrite<Slot[]>(ring_.size())),
      requests_(ring_.size()),
      front_end_watch_(options_.front_end_socket),
      seen_bus_errors_(BusErrorGuard::broken_count()) {
  publisher_.queue = this;
  publisher_.run = [](Deferred& self) {
    BlkQueue* queue = static_cast<Publisher&>(self).queue;
    queue->Publish();
    queue->NotifyWaiters();
  };
}

BlkQueue::~BlkQueue() = default;

BlkRequest& BlkQueue::RequestOf(uint16_t number) {
  static_assert(std::is_trivially_destructible_v<BlkRequest>);
  BlkRequest*& request = requests_[number];
  if (request == nullptr) {
    request = new (slots_[number].bytes.data()) BlkRequest;
    request->number = number;
    request->queue = this;
    request->done = OnIoDone;
  }
  return *request;
}

void BlkQueue::Start(bdev::Descriptor* descriptor) {
  poll_ns_ =
      static_cast<uint64_t>(std::chrono::nanoseconds(options_.reactor->options().poll).count());
  AttachBdev(descriptor);
  ring_.Resume([this](uint16_t number) {
    if (!broken_) Process(number);
  });
  if (broken_) return;
  // The watch is edge-triggered, so each notification is a separate event. The eventfd is not read,
  // because the driver could make the read block forever.
  int error = options_.reactor->Watch(options_.event_fds.kick.get(), EPOLLIN | EPOLLET, this);
  if (error != 0) {
    Break("the kick descriptor cannot be watched");
    return;
  }
  watching_ = true;
  options_.reactor->AddDelayWatch(this);
  BeginPolling();
  NotifyDriver();
}

void BlkQueue::Stop(std::function<void()> done) {
  on_stopped_ = std::move(done);
  EndPolling();
  EndWatching();
  options_.reactor->Defer(publisher_);
}

void BlkQueue::EndWatching() {
  if (!std::exchange(watching_, false)) return;
  options_.reactor->Unwatch(options_.event_fds.kick.get());
  options_.reactor->RemoveDelayWatch(this);
}

void BlkQueue::OnDelay(uint64_t /*clock_ns*/) {
  if (outstanding() != 0 && front_end_watch_.IsClosed()) BreakWithoutFrontEnd();
}

// Requests that wait must not reach the medium after the front end has left.
void BlkQueue::BreakWithoutFrontEnd() {
  Break("the front end has disconnected");
  AbortRequests();
}

void BlkQueue::AttachBdev(bdev::Descriptor* descriptor) {
  if (descriptor != nullptr) channel_ = descriptor->OpenChannel(*options_.reactor);
}

void BlkQueue::DetachBdev(std::function<void()> done) {
  on_detached_ = std::move(done);
  options_.reactor->Defer(publisher_);
}

void BlkQueue::SetCall(base::UniqueFd call) {
  options_.event_fds.call = std::move(call);
  NotifyDriver();
}

void BlkQueue::SetError(base::UniqueFd error) {
  options_.event_fds.error = std::move(error);
  if (broken_) NotifyOfError();
}

void BlkQueue::AbortRequests() {
  if (!channel_) return;
  dropping_ = true;
  for (BlkRequest* request : requests_) {
    if (request != nullptr && request->busy) channel_->Abort(*request);
  }
}

// Calls the callbacks of DetachBdev and Stop if no request is outstanding.
void BlkQueue::NotifyWaiters() {
  if (outstanding() > 0) return;
  if (on_detached_) {
    channel_.reset();
    std::exchange(on_detached_, nullptr)();
  }
  if (on_stopped_) {
    channel_.reset();
    std::exchange(on_stopped_, nullptr)();  // may destroy this
  }
}

void BlkQueue::BeginPolling() {
  if (polling_) return;
  polling_ = true;
  last_work_ns_ = options_.reactor->now_ns();
  ring_.DisableNotifications();
  options_.reactor->AddPoller(this);
}

void BlkQueue::EndPolling() {
  if (!std::exchange(polling_, false)) return;
  options_.reactor->RemovePoller(this);
  options_.turn->Leave(this);
}

bool BlkQueue::Poll() {
  const bool available = ring_.HasAvailable();
  if (!CheckMemory()) return true;
  const uint64_t now_ns = options_.reactor->now_ns();
  if (!available) {
    options_.turn->Leave(this);
    front_end_watch_.SawNothing(now_ns);
    if (now_ns - last_work_ns_ >= poll_ns_ && PrepareSleep()) EndPolling();
    return false;
  }
  last_work_ns_ = now_ns;
  if (front_end_watch_.MayExecute(now_ns)) {
    TakeAvailable();
  } else {
    BreakWithoutFrontEnd();
  }
  return true;
}

// Takes at most one ring's worth of requests, so that other queues are also served.
void BlkQueue::TakeAvailable() {
  if (!options_.turn->Begin(this)) return;
  taking_ = true;
  for (uint16_t left = ring_.size(); left > 0 && !options_.turn->is_over() && !broken_; --left) {
    const std::optional<Virtqueue::Taken> taken = ring_.Take();
    if (!taken) break;
    if (taken->error != ChainError::kNone) {
      Break(ToString(taken->error));
    } else {
      Process(taken->number);
      const Chain& chain = RequestOf(taken->number).chain;
      options_.turn->Use(
          std::max<uint64_t>(chain.readable_bytes() + chain.writable_bytes(), kMinTurnBytes));
    }
  }
  taking_ = false;
  Publish();
  if (on_detached_) options_.reactor->Defer(publisher_);
}

void BlkQueue::Process(uint16_t number) {
  BlkRequest& request = RequestOf(number);
  if (request.busy) {
    Break(ToString(ChainError::kHeadInUse));
    return;
  }
  const ChainError error = ring_.ReadChain(number, *options_.memory, request.chain);
  if (error != ChainError::kNone) {
    Break(ToString(error));
    return;
  }
  std::optional<uint8_t> status = PrepareBlkRequest(device_, options_.write_through, request);
  if (request.status == nullptr) {
    Break("a request without room for its status");
    return;
  }
  request.busy = true;
  set_outstanding(outstanding() + 1);
  if (!status && (!channel_ || on_detached_)) status = VIRTIO_BLK_S_IOERR;
  if (status) {
    Complete(request, *status);
  } else {
    channel_->Submit(request);
  }
}

void BlkQueue::OnIoDone(bdev::Io& io, bdev::IoStatus status) {
  auto& request = static_cast<BlkRequest&>(io);
  if (status == bdev::IoStatus::kAborted && request.queue->dropping_) {
    return request.queue->Drop(request);
  }
  request.queue->Complete(request, BlkStatus(status));
}

void BlkQueue::Drop(BlkRequest& request) {
  request.busy = false;
  set_outstanding(outstanding() - 1);
  options_.reactor->Defer(publisher_);
}

void BlkQueue::Complete(BlkRequest& request, uint8_t status) {
  StoreRelaxed(*request.status, status);
  request.busy = false;
  set_outstanding(outstanding() - 1);
  ring_.PushUsed(request.number, status == VIRTIO_BLK_S_OK ? request.written_bytes : 1);
  unpublished_ = true;
  if (!taking_) options_.reactor->Defer(publisher_);
}

void BlkQueue::Publish() {
  if (!std::exchange(unpublished_, false)) return;
  if (ring_.PublishUsed()) NotifyDriver();
}

void BlkQueue::NotifyDriver() {
  const bool was_blocked = options_.notifier->blocked();
  if (options_.notifier->Notify(options_.event_fds.call)) return;
  constexpr char kReason[] = "a write to the call descriptor blocked";
  if (broken_ && !was_blocked && options_.on_broken) options_.on_broken(kReason);
  Break(kReason);
}

void BlkQueue::NotifyOfError() {
  if (options_.notifier->blocked() || options_.notifier->Notify(options_.event_fds.error)) return;
  if (options_.on_broken) options_.on_broken("a write to the error descriptor blocked");
}

bool BlkQueue::PrepareSleep() {
  ring_.EnableNotifications();
  if (!ring_.HasAvailable()) return true;
  ring_.DisableNotifications();
  return false;
}

void BlkQueue::AfterSleep() { ring_.DisableNotifications(); }

void BlkQueue::OnFdReady(uint32_t /*events*/) {
  if (polling_) return;
  BeginPolling();
  Poll();
}

// Returns false if memory that this queue uses has lost its backing.
bool BlkQueue::CheckMemory() {
  if (seen_bus_errors_ == BusErrorGuard::broken_count()) return true;
  seen_bus_errors_ = BusErrorGuard::broken_count();
  const auto& inflight = options_.queue.inflight;
  if (options_.memory->intact() && (!inflight || inflight->intact())) return true;
  Break("guest memory was lost: its file was truncated");
  return false;
}

void BlkQueue::Break(std::string reason) {
  if (std::exchange(broken_, true)) return;
  EndPolling();
  EndWatching();
  NotifyOfError();
  if (options_.on_broken) options_.on_broken(std::move(reason));
}

}  // namespace sma::storage_target::virtio
