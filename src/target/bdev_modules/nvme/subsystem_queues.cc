#include "target/bdev_modules/nvme/subsystem_queues.h"

#include <algorithm>
#include <utility>

#include "target/bdev_modules/nvme/nvme_bdev.h"

namespace sma::target::bdev_nvme {

using initiator::ReactorQueuePair;
using initiator::Request;
using initiator::RequestList;

namespace {

// Before a command that failed, but not for good, is tried again.
constexpr std::chrono::milliseconds kRetryPause{100};

NvmeIo& AsNvmeIo(Request& request) { return static_cast<NvmeIo&>(request); }

void EndAll(RequestList& list, bdev::IoStatus status) {
  while (Request* request = list.Pop()) {
    NvmeIo& io = AsNvmeIo(*request);
    io.channel().Finish(io, status);
  }
}

// Moves all of `from` to the end of `to`.
void MoveAll(RequestList& from, RequestList& to) {
  while (Request* request = from.Pop()) to.Push(*request);
}

}  // namespace

// A path and its queue pair; none while nobody uses it.
struct SubsystemQueues::PathQueue : ReactorQueuePair::Owner {
  PathQueue(SubsystemQueues& parent, const QueuePath& queue_path)
      : queues(parent), path(queue_path) {}

  void OnQueueReady(ReactorQueuePair& /*queue*/) override { queues.OnQueueReady(); }
  void OnQueueClosed(ReactorQueuePair& /*queue*/) override { queues.OnQueueClosed(*this); }

  bool ready() const { return queue && queue->ready(); }

  SubsystemQueues& queues;
  QueuePath path;
  std::unique_ptr<ReactorQueuePair> queue;
};

std::shared_ptr<SubsystemQueues> SubsystemQueues::Make(Reactor& reactor, OnLost on_lost) {
  return {new SubsystemQueues(reactor, std::move(on_lost)),
          [](SubsystemQueues* queues) { queues->reactor_.Post([queues] { delete queues; }); }};
}

SubsystemQueues::SubsystemQueues(Reactor& reactor, OnLost on_lost)
    : reactor_(reactor), on_lost_(std::move(on_lost)) {}

SubsystemQueues::~SubsystemQueues() { reactor_.CancelTimer(retry_timer_); }

void SubsystemQueues::PathUp(const QueuePath& path) {
  PathDown(path.path_id);
  auto behind = std::find_if(paths_.begin(), paths_.end(),
                             [&](const auto& other) { return other->path.path_id > path.path_id; });
  auto added = paths_.insert(behind, std::make_unique<PathQueue>(*this, path));
  if (users_ > 0) Connect(**added);
}

void SubsystemQueues::PathDown(uint64_t path_id) {
  auto found = std::find_if(paths_.begin(), paths_.end(),
                            [&](const auto& path) { return path->path.path_id == path_id; });
  if (found == paths_.end()) return;
  // Out of the list first: what was under way in it is submitted again when it is destroyed.
  std::unique_ptr<PathQueue> gone = std::move(*found);
  paths_.erase(found);
}

void SubsystemQueues::SetFailing(bool failing) {
  failing_ = failing;
  if (failing && Choose() == nullptr) {
    EndAll(waiting_, bdev::IoStatus::kFailed);
    EndAll(delayed_, bdev::IoStatus::kFailed);
  }
}

void SubsystemQueues::SetPolicy(const ModuleOptions& options) {
  policy_ = options.policy;
  retry_count_ = options.bdev_retry_count;
}

void SubsystemQueues::AddUser() {
  if (users_++ > 0) return;
  for (auto& path : paths_) {
    if (!path->queue) Connect(*path);
  }
}

// Not at once: the last channel may go in a function that a queue pair calls.
void SubsystemQueues::RemoveUser() {
  if (--users_ > 0) return;
  reactor_.Post([weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self || self->users_ > 0) return;
    for (auto& path : self->paths_) path->queue.reset();
  });
}

void SubsystemQueues::Connect(PathQueue& path) {
  path.queue = std::make_unique<ReactorQueuePair>(reactor_, path.path.options, path.path.timeouts,
                                                  static_cast<ReactorQueuePair::Owner&>(path));
  path.queue->Start();
}

SubsystemQueues::PathQueue* SubsystemQueues::Choose() {
  const size_t start = policy_ == MultipathPolicy::kActiveActive ? turn_++ : 0;
  for (size_t i = 0; i < paths_.size(); ++i) {
    PathQueue& path = *paths_[(start + i) % paths_.size()];
    if (path.ready()) return &path;
  }
  return nullptr;
}

void SubsystemQueues::Submit(NvmeIo& io) {
  io.done = OnCommandDone;
  if (PathQueue* path = Choose()) {
    io.MakeCommand(path->path.limits);
    path->queue->Submit(io);
  } else if (failing_) {
    io.channel().Finish(io, bdev::IoStatus::kFailed);
  } else {
    waiting_.Push(io);
  }
}

void SubsystemQueues::AbortWaiting(const NvmeChannel& channel) {
  RequestList aborted;
  for (RequestList* list : {&waiting_, &delayed_}) {
    RequestList all;
    MoveAll(*list, all);
    while (Request* request = all.Pop()) {
      bool of_channel = &AsNvmeIo(*request).channel() == &channel;
      (of_channel ? aborted : *list).Push(*request);
    }
  }
  EndAll(aborted, bdev::IoStatus::kAborted);
}

void SubsystemQueues::OnQueueReady() {
  RequestList waiting;
  MoveAll(waiting_, waiting);
  while (Request* request = waiting.Pop()) Submit(AsNvmeIo(*request));
}

void SubsystemQueues::OnQueueClosed(PathQueue& path) {
  const std::string reason = path.queue->queue_pair().close_reason();
  const uint64_t id = path.path.path_id;
  const uint64_t epoch = path.path.epoch;
  PathDown(id);
  on_lost_(id, epoch, reason);
}

void SubsystemQueues::OnCommandDone(Request& request, const nvme::Completion& completion) {
  NvmeIo& io = AsNvmeIo(request);
  io.channel().queues().Finish(io, completion);
}

void SubsystemQueues::Finish(NvmeIo& io, const nvme::Completion& completion) {
  NvmeChannel& channel = io.channel();
  bool succeeded = nvme::StatusOf(completion.status) == nvme::Status::kSuccess;
  if (succeeded && !io.Advance()) return Submit(io);
  Verdict verdict = Judge(completion.status);
  if (verdict == Verdict::kFinal || channel.resetting()) {
    return channel.Finish(io, succeeded             ? bdev::IoStatus::kOk
                              : channel.resetting() ? bdev::IoStatus::kAborted
                                                    : ToIoStatus(completion.status));
  }
  if (verdict == Verdict::kOtherPath) return Submit(io);
  if (retry_count_ >= 0 && io.retries++ >= retry_count_) {
    return channel.Finish(io, ToIoStatus(completion.status));
  }
  RetryLater(io);
}

void SubsystemQueues::RetryLater(NvmeIo& io) {
  delayed_.Push(io);
  if (retry_timer_ != 0) return;
  retry_timer_ = reactor_.AddTimer(kRetryPause, [this] {
    retry_timer_ = 0;
    RequestList delayed;
    MoveAll(delayed_, delayed);
    while (Request* request = delayed.Pop()) Submit(AsNvmeIo(*request));
  });
}

}  // namespace sma::target::bdev_nvme
