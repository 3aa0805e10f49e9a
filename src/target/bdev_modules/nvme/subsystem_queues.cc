// Paths and disks of a remote subsystem in one reactor.

#include "target/bdev_modules/nvme/subsystem_queues.h"

#include <algorithm>
#include <utility>

#include "target/bdev_modules/nvme/nvme_bdev.h"
#include "target/bdev_modules/nvme/path_queue.h"

namespace sma::target::bdev_nvme {

using initiator::ReactorQueuePair;
using initiator::Request;
using initiator::RequestList;

namespace {

constexpr uint64_t kDrainTimeoutNs = 5'000'000'000;
constexpr std::chrono::milliseconds kDrainInterval{1};

}  // namespace

std::shared_ptr<SubsystemQueues> SubsystemQueues::Make(Reactor& reactor, Events events) {
  return {new SubsystemQueues(reactor, std::move(events)),
          [](SubsystemQueues* queues) { queues->reactor_.Post([queues] { delete queues; }); }};
}

SubsystemQueues::SubsystemQueues(Reactor& reactor, Events events)
    : reactor_(reactor), events_(std::move(events)) {}

SubsystemQueues::~SubsystemQueues() {
  reactor_.CancelTimer(timer_);
  for (auto& path : paths_) GiveBack(*path);
}

SubsystemQueues::PathQueue* SubsystemQueues::Find(uint64_t path_id) const {
  auto found = std::find_if(paths_.begin(), paths_.end(),
                            [&](const auto& path) { return path->path.path_id == path_id; });
  return found == paths_.end() ? nullptr : found->get();
}

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
  GiveBack(*gone);
}

void SubsystemQueues::PausePath(uint64_t path_id, std::shared_ptr<void> drained) {
  PathQueue* path = Find(path_id);
  if (path == nullptr) return;
  path->paused = true;
  AwaitDrained(path_id, reactor_.now_ns() + kDrainTimeoutNs, std::move(drained));
}

// By looking now and then, which costs the completions nothing.
void SubsystemQueues::AwaitDrained(uint64_t path_id, uint64_t deadline_ns,
                                   std::shared_ptr<void> drained) {
  const PathQueue* path = Find(path_id);
  bool busy =
      path != nullptr && path->paused && path->queue && path->queue->queue_pair().outstanding() > 0;
  if (!busy || reactor_.now_ns() >= deadline_ns) return;
  reactor_.AddTimer(kDrainInterval, [weak = weak_from_this(), path_id, deadline_ns, drained] {
    if (auto self = weak.lock()) self->AwaitDrained(path_id, deadline_ns, drained);
  });
}

void SubsystemQueues::SetDisks(uint64_t path_id, uint64_t epoch, const PathDisks& disks) {
  PathQueue* path = Find(path_id);
  if (path == nullptr || path->path.epoch != epoch) return;
  std::vector<PathQueue::DiskRest> rests(disks.size());
  const PathDisks& old = path->path.disks;
  for (size_t i = 0; i < std::min(disks.size(), old.size()); ++i) {
    if (disks[i].serial == old[i].serial) rests[i] = path->rests[i];
  }
  path->path.disks = disks;
  path->rests = std::move(rests);
  path->paused = false;
  SubmitWaiting();
}

SubsystemQueues::DiskState& SubsystemQueues::StateOf(const DiskKey& disk) {
  if (disk.slot >= disk_states_.size()) disk_states_.resize(disk.slot + 1);
  return disk_states_[disk.slot];
}

void SubsystemQueues::DiskGone(const DiskKey& disk) {
  uint32_t& gone_serial = StateOf(disk).gone_serial;
  gone_serial = std::max(gone_serial, disk.serial);
  EndDisk(waiting_, disk, bdev::IoStatus::kGone);
  EndDisk(delayed_, disk, bdev::IoStatus::kGone);
}

void SubsystemQueues::SetDiskFailing(const DiskKey& disk, bool failing) {
  DiskState& state = StateOf(disk);
  if (failing) {
    state.failing_serial = disk.serial;
    EndDisk(waiting_, disk, bdev::IoStatus::kFailed);
  } else if (state.failing_serial == disk.serial) {
    state.failing_serial = 0;
  }
}

void SubsystemQueues::EndDisk(RequestList& list, const DiskKey& disk, bdev::IoStatus status) {
  RequestList ended;
  RequestList all;
  all.Take(list);
  while (Request* request = all.Pop()) {
    bool of_disk = static_cast<NvmeIo*>(request)->channel().disk() == disk;
    (of_disk ? ended : list).Push(*request);
  }
  while (Request* request = ended.Pop()) {
    NvmeIo& io = static_cast<NvmeIo&>(*request);
    io.channel().Finish(io, status);
  }
}

// Each I/O that waits is looked at again: with `failing_` it does not wait any more.
void SubsystemQueues::SetFailing(bool failing) {
  failing_ = failing;
  if (!failing) return;
  waiting_.Take(delayed_);
  SubmitWaiting();
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
    for (auto& path : self->paths_) {
      path->queue.reset();
      self->GiveBack(*path);
    }
  });
}

void SubsystemQueues::Connect(PathQueue& path) {
  if (path.path.lender) return Borrow(path);
  path.queue = std::make_unique<ReactorQueuePair>(reactor_, path.path.options, path.path.timeouts,
                                                  static_cast<ReactorQueuePair::Owner&>(path));
  path.queue->Start();
}

void SubsystemQueues::OnQueueReady(PathQueue& path) {
  TellBorrowers(path);
  SubmitWaiting();
}

void SubsystemQueues::OnQueueClosed(PathQueue& path) {
  const std::string reason = path.queue->queue_pair().close_reason();
  const uint64_t id = path.path.path_id;
  const uint64_t epoch = path.path.epoch;
  PathDown(id);
  events_.on_lost(id, epoch, reason);
}

void SubsystemQueues::EndAbort(uint64_t path_id, uint64_t epoch, uint16_t cid) {
  PathQueue* path = Find(path_id);
  if (path != nullptr && path->path.epoch == epoch && path->queue) path->queue->EndAbort(cid);
}

}  // namespace sma::target::bdev_nvme
