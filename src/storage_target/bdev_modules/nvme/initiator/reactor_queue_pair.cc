// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/nvme/initiator/reactor_queue_pair.h"

#include <sys/epoll.h>

#include <utility>

namespace sma::storage_target::initiator {

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

ReactorQueuePair::~ReactorQueuePair() {
  Close("destroyed");
  Unwatch();
}

void ReactorQueuePair::Start() {
  queue_pair_.Start();
  if (queue_pair_.closed()) {
    reactor_.Defer(*flusher_);  // notifies the owner
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
  if (ended_) return AwaitPeer();
  if ((events & EPOLLOUT) != 0) queue_pair_.Flush();
  queue_pair_.Receive();
  if (queue_pair_.has_unsent() && !queue_pair_.wants_write()) reactor_.Defer(*flusher_);
  Advance();
}

// Handles state changes of the queue pair. Every entry point calls this last, because the owner may
// destroy the object.
void ReactorQueuePair::Advance() {
  if (ended_) return;
  if (queue_pair_.closed()) {
    ended_ = true;
    WatchPeer();
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
  UnwatchSocket();
  reactor_.CancelTimer(std::exchange(timer_, 0));
}

void ReactorQueuePair::UnwatchSocket() {
  if (watched_events_ != 0) reactor_.Unwatch(queue_pair_.fd());
  watched_events_ = 0;
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
  if (queue_pair_.closed() && ended_) return;
  ended_ = true;
  queue_pair_.Close(reason);
  WatchPeer();
}

// While requests are held, the socket is watched for the end of the connection.
void ReactorQueuePair::WatchPeer() {
  if (!holding() || !queue_pair_.peer_may_close()) return Unwatch();
  reactor_.CancelTimer(std::exchange(timer_, 0));
  UpdateWatch();
}

void ReactorQueuePair::AwaitPeer() {
  bool closed = queue_pair_.AwaitPeer();
  if (!closed && queue_pair_.peer_may_close()) return;
  UnwatchSocket();
  if (!closed) return;
  reactor_.CancelTimer(std::exchange(timer_, 0));
  queue_pair_.EndHeld();
  owner_.OnHeldEnded(*this);
}

void ReactorQueuePair::EndHeldAfter(std::chrono::milliseconds time) {
  reactor_.CancelTimer(std::exchange(timer_, 0));
  timer_ = reactor_.AddTimer(time, [this] {
    timer_ = 0;
    Unwatch();
    queue_pair_.EndHeld();
    owner_.OnHeldEnded(*this);
  });
}

}  // namespace sma::storage_target::initiator
