#include "target/bdev_modules/nvme/initiator/reactor_queue_pair.h"

#include <sys/epoll.h>

#include <utility>

namespace sma::target::initiator {

ReactorQueuePair::ReactorQueuePair(Reactor& reactor, const QueuePair::Options& options,
                                   const Timeouts& timeouts, Owner& owner)
    : reactor_(reactor),
      queue_pair_(options),
      timeouts_(timeouts),
      owner_(owner),
      flusher_(std::make_unique<Flusher>()) {
  flusher_->run = RunFlusher;
  flusher_->queue = this;
}

ReactorQueuePair::~ReactorQueuePair() { Close("destroyed"); }

void ReactorQueuePair::Start() {
  queue_pair_.Start();
  if (queue_pair_.closed()) {
    reactor_.Defer(*flusher_);  // tells the owner
    return;
  }
  if (timeouts_.connect.count() > 0) {
    timer_ = reactor_.AddTimer(timeouts_.connect, [this] {
      timer_ = 0;
      queue_pair_.Close("cannot connect: no answer in time");
      Advance();
    });
  }
  UpdateWatch();
}

bool ReactorQueuePair::Submit(Request& request) {
  if (!queue_pair_.Submit(request)) return false;
  reactor_.Defer(*flusher_);
  return true;
}

void ReactorQueuePair::EndAbort(uint16_t cid) {
  queue_pair_.EndAbort(cid);
  if (queue_pair_.has_unsent()) reactor_.Defer(*flusher_);
}

void ReactorQueuePair::RunFlusher(Deferred& deferred) {
  auto& flusher = static_cast<Flusher&>(deferred);
  flusher.queue->queue_pair_.Flush();
  flusher.queue->Advance();
}

void ReactorQueuePair::OnFdReady(uint32_t events) {
  if ((events & EPOLLOUT) != 0) queue_pair_.Flush();
  queue_pair_.Receive();
  if (queue_pair_.has_unsent() && !queue_pair_.wants_write()) reactor_.Defer(*flusher_);
  Advance();
}

// Looks at what has become of the queue pair. The last thing that every entry does: the owner may
// destroy it.
void ReactorQueuePair::Advance() {
  if (ended_) return;
  if (queue_pair_.closed()) {
    ended_ = true;
    Unwatch();
    owner_.OnQueueClosed(*this);
    return;
  }
  UpdateWatch();
  if (queue_pair_.ready() && !std::exchange(told_ready_, true)) {
    StartTicking();
    owner_.OnQueueReady(*this);
  }
}

void ReactorQueuePair::UpdateWatch() {
  uint32_t events = EPOLLIN | (queue_pair_.wants_write() ? EPOLLOUT : 0u);
  if (events == watched_events_) return;
  if (watched_events_ == 0) {
    reactor_.Watch(queue_pair_.fd(), events, this);
  } else {
    reactor_.ModifyWatch(queue_pair_.fd(), events);
  }
  watched_events_ = events;
}

void ReactorQueuePair::Unwatch() {
  if (watched_events_ != 0) reactor_.Unwatch(queue_pair_.fd());
  watched_events_ = 0;
  reactor_.CancelTimer(std::exchange(timer_, 0));
}

void ReactorQueuePair::StartTicking() {
  reactor_.CancelTimer(std::exchange(timer_, 0));
  if (timeouts_.command.count() > 0) {
    timer_ = reactor_.AddTimer(timeouts_.command / kTicksPerTimeout, [this] { OnTick(); });
  }
}

void ReactorQueuePair::OnTick() {
  timer_ = 0;
  queue_pair_.Tick();
  if (queue_pair_.OldestAgeTicks(nvme::AdminOpcode::kAsyncEventRequest) > kTicksPerTimeout) {
    queue_pair_.Close("a command was not answered in time");
    Advance();
    return;
  }
  StartTicking();
}

void ReactorQueuePair::Close(const std::string& reason) {
  ended_ = true;
  queue_pair_.Close(reason);
  Unwatch();
}

}  // namespace sma::target::initiator
