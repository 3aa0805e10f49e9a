#include "target/virtio/blk_queue.h"

#include <sys/epoll.h>

#include <optional>
#include <utility>

#include "target/virtio/event_fd.h"
#include "target/virtio/shared_fields.h"

namespace sma::target::virtio {
namespace {

uint8_t BlkStatus(bdev::IoStatus status) {
  if (status == bdev::IoStatus::kOk) return VIRTIO_BLK_S_OK;
  return status == bdev::IoStatus::kUnsupported ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

}  // namespace

BlkQueue::BlkQueue(Options options, const BlkDevice& device)
    : options_(std::move(options)),
      device_(device),
      ring_(options_.queue),
      requests_(ring_.size()),
      seen_bus_errors_(BusErrorGuard::broken_count()) {
  publisher_.queue = this;
  publisher_.run = [](Deferred& self) {
    BlkQueue* queue = static_cast<Publisher&>(self).queue;
    queue->Publish();
    queue->EndWaits();
  };
  for (size_t i = 0; i < requests_.size(); ++i) {
    requests_[i].number = static_cast<uint16_t>(i);
    requests_[i].queue = this;
    requests_[i].done = OnIoDone;
  }
}

BlkQueue::~BlkQueue() = default;

void BlkQueue::Start(bdev::Descriptor* descriptor) {
  poll_ns_ =
      static_cast<uint64_t>(std::chrono::nanoseconds(options_.reactor->options().poll).count());
  AttachBdev(descriptor);
  ring_.Resume([this](uint16_t number) {
    if (!broken_) Process(number);
  });
  if (broken_) return;
  // Edge-triggered: each notification is an event of its own, and nothing is read, which the driver
  // could let wait for ever.
  int error = options_.reactor->Watch(options_.kick.get(), EPOLLIN | EPOLLET, this);
  if (error != 0) {
    Break("the descriptor for notifications cannot be watched");
    return;
  }
  watching_ = true;
  BeginPolling();
  NotifyDriver();
}

void BlkQueue::Stop(std::function<void()> done) {
  on_stopped_ = std::move(done);
  EndPolling();
  if (std::exchange(watching_, false)) options_.reactor->Unwatch(options_.kick.get());
  options_.reactor->Defer(publisher_);
}

void BlkQueue::AttachBdev(bdev::Descriptor* descriptor) {
  if (descriptor != nullptr) channel_ = descriptor->OpenChannel(*options_.reactor);
}

void BlkQueue::DetachBdev(std::function<void()> done) {
  on_detached_ = std::move(done);
  options_.reactor->Defer(publisher_);
}

void BlkQueue::SetCall(base::UniqueFd call) {
  options_.call = std::move(call);
  NotifyDriver();
}

void BlkQueue::SetError(base::UniqueFd error) {
  options_.error = std::move(error);
  if (broken_) NotifyOfError();
}

void BlkQueue::AbortRequests() {
  if (!channel_) return;
  dropping_ = true;
  for (BlkRequest& request : requests_) {
    if (request.busy) channel_->Abort(request);
  }
}

// What Stop and DetachBdev wait for, if it has come.
void BlkQueue::EndWaits() {
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
  if (std::exchange(polling_, false)) options_.reactor->RemovePoller(this);
}

bool BlkQueue::Poll() {
  const bool available = ring_.HasAvailable();
  if (!CheckMemory()) return true;
  const uint64_t now_ns = options_.reactor->now_ns();
  if (!available) {
    if (now_ns - last_work_ns_ >= poll_ns_ && PrepareSleep()) EndPolling();
    return false;
  }
  last_work_ns_ = now_ns;
  TakeAvailable();
  return true;
}

// No more than the ring holds, so that other queues come to their turn.
void BlkQueue::TakeAvailable() {
  taking_ = true;
  for (uint16_t left = ring_.size(); left > 0 && !broken_; --left) {
    const std::optional<Virtqueue::Taken> taken = ring_.Take();
    if (!taken) break;
    if (taken->error != ChainError::kNone) {
      Break(ToString(taken->error));
    } else {
      Process(taken->number);
    }
  }
  taking_ = false;
  Publish();
  if (on_detached_) options_.reactor->Defer(publisher_);
}

void BlkQueue::Process(uint16_t number) {
  BlkRequest& request = requests_[number];
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
    Answer(request, *status);
  } else {
    channel_->Submit(request);
  }
}

void BlkQueue::OnIoDone(bdev::Io& io, bdev::IoStatus status) {
  auto& request = static_cast<BlkRequest&>(io);
  if (status == bdev::IoStatus::kAborted && request.queue->dropping_) {
    return request.queue->Drop(request);
  }
  request.queue->Answer(request, BlkStatus(status));
}

void BlkQueue::Drop(BlkRequest& request) {
  request.busy = false;
  set_outstanding(outstanding() - 1);
  options_.reactor->Defer(publisher_);
}

void BlkQueue::Answer(BlkRequest& request, uint8_t status) {
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
  if (NotifyEventFd(options_.call)) return;
  options_.call.Reset();
  Break("its descriptor for calls made the reactor wait");
}

void BlkQueue::NotifyOfError() {
  if (!NotifyEventFd(options_.error)) options_.error.Reset();
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

// False when memory that this queue uses has lost what was behind it.
bool BlkQueue::CheckMemory() {
  if (seen_bus_errors_ == BusErrorGuard::broken_count()) return true;
  seen_bus_errors_ = BusErrorGuard::broken_count();
  const auto& inflight = options_.queue.inflight;
  if (options_.memory->intact() && (!inflight || inflight->intact())) return true;
  Break("the guest's memory is gone: its file was cut short");
  return false;
}

void BlkQueue::Break(std::string reason) {
  if (std::exchange(broken_, true)) return;
  EndPolling();
  if (std::exchange(watching_, false)) options_.reactor->Unwatch(options_.kick.get());
  NotifyOfError();
  if (options_.on_broken) options_.on_broken(std::move(reason));
}

}  // namespace sma::target::virtio
