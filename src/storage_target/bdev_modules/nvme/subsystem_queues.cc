// SPDX-License-Identifier: Apache-2.0

// The paths and disks of a remote subsystem in one reactor.

#include "storage_target/bdev_modules/nvme/subsystem_queues.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "storage_target/bdev_modules/nvme/nvme_bdev.h"
#include "storage_target/bdev_modules/nvme/path_queue.h"

namespace sma::storage_target::bdev_nvme {

using initiator::ReactorQueuePair;

namespace {

constexpr uint64_t kDrainTimeoutNs = 5'000'000'000;
constexpr std::chrono::milliseconds kDrainInterval{1};

std::function<bool(const bdev::Io&)> IsOf(const DiskKey& disk) {
  return [disk](const bdev::Io& io) {
    return static_cast<const NvmeChannel*>(io.channel)->disk() == disk;
  };
}

}  // namespace

std::shared_ptr<SubsystemQueues> SubsystemQueues::Make(Reactor& reactor, Events events) {
  return {new SubsystemQueues(reactor, std::move(events)),
          [](SubsystemQueues* queues) { queues->reactor_.Post([queues] { delete queues; }); }};
}

SubsystemQueues::SubsystemQueues(Reactor& reactor, Events events)
    : reactor_(reactor), events_(std::move(events)) {}

SubsystemQueues::~SubsystemQueues() {
  reactor_.CancelTimer(timer_);
  for (auto& path : paths_) ReturnToLender(*path);
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
  // The path is first removed from the list, because its outstanding I/O is submitted again when it
  // is closed.
  std::unique_ptr<PathQueue> gone = std::move(*found);
  paths_.erase(found);
  ReturnToLender(*gone);
  Retire(std::move(gone));
}

// Closes the queue pair, and keeps it as long as it holds I/O. I/O for a removed disk is not held.
void SubsystemQueues::Retire(std::unique_ptr<PathQueue> path) {
  if (!path->queue) return;
  path->queue->Close("the path is no longer used");
  FailHeldOfRemovedDisks(*path);
  if (!path->queue->holding()) return;
  spdlog::warn(
      "nvme: {} at {}: {} commands that may still be executed are held, until the connection is "
      "closed there or for {} ms",
      path->path.options.association.subnqn, path->path.options.association.address.ToString(),
      path->queue->queue_pair().held(), path->path.quiesce_time.count());
  retired_.push_back(std::move(path));
}

void SubsystemQueues::AssociationEnded(uint64_t path_id, uint64_t epoch) {
  for (auto& path : retired_) {
    if (path->path.path_id != path_id || path->path.epoch != epoch) continue;
    path->queue->EndHeldAfter(path->path.quiesce_time);
  }
}

void SubsystemQueues::OnHeldEnded(PathQueue& path) {
  std::erase_if(retired_, [&](const auto& retired) { return retired.get() == &path; });
}

void SubsystemQueues::FailHeldOfRemovedDisks(PathQueue& path) {
  auto is_removed = [this](const initiator::Request& request) {
    const DiskKey& disk = static_cast<const NvmeIo&>(request).channel().disk();
    return disk.serial <= StateOf(disk).gone_serial;
  };
  path.queue->FailHeld(is_removed, nvme::Status::kInvalidNamespaceOrFormat);
}

void SubsystemQueues::PausePath(uint64_t path_id, std::shared_ptr<void> drained) {
  PathQueue* path = Find(path_id);
  if (path == nullptr) return;
  path->paused = true;
  AwaitDrained(path_id, reactor_.now_ns() + kDrainTimeoutNs, std::move(drained));
}

// Polls for outstanding I/O, so that completions have no extra cost.
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
  std::vector<PathQueue::DiskBackOff> back_offs(disks.size());
  const PathDisks& old = path->path.disks;
  for (size_t i = 0; i < std::min(disks.size(), old.size()); ++i) {
    if (disks[i].serial == old[i].serial) back_offs[i] = path->back_offs[i];
  }
  path->path.disks = disks;
  path->back_offs = std::move(back_offs);
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
  End(waiting_, IsOf(disk), bdev::IoStatus::kGone);
  End(delayed_, IsOf(disk), bdev::IoStatus::kGone);
  for (auto& path : retired_) FailHeldOfRemovedDisks(*path);
  std::erase_if(retired_, [](const auto& path) { return !path->queue->holding(); });
}

void SubsystemQueues::SetDiskFailing(const DiskKey& disk, bool failing) {
  DiskState& state = StateOf(disk);
  if (failing) {
    state.failing_serial = disk.serial;
    End(waiting_, IsOf(disk), bdev::IoStatus::kFailed);
  } else if (state.failing_serial == disk.serial) {
    state.failing_serial = 0;
  }
}

void SubsystemQueues::End(bdev::IoQueue& queue, const std::function<bool(const bdev::Io&)>& which,
                          bdev::IoStatus status) {
  bdev::IoQueue ended;
  for (bdev::Io* io = queue.first(); io != nullptr;) {
    bdev::Io* next = queue.After(*io);
    if (which(*io)) {
      bdev::IoQueue::Remove(*io);
      ended.Append(*io);
    }
    io = next;
  }
  while (!ended.empty()) {
    NvmeIo& io = NvmeIo::Of(ended.TakeFirst());
    io.channel().Finish(io, status);
  }
}

// Submits each waiting I/O again: if `failing_` is set, it fails instead of waiting.
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

// Disconnects with a delay, because the last channel may be destroyed in a callback of a queue
// pair.
void SubsystemQueues::RemoveUser() {
  if (--users_ > 0) return;
  reactor_.Post([weak = weak_from_this()] {
    auto self = weak.lock();
    if (!self || self->users_ > 0) return;
    for (auto& path : self->paths_) self->CloseUnused(*path);
  });
}

// The queue pair is kept until its Abort commands have ended: they name a command by queue and CID,
// and would abort a command of the queue pair that replaced it. If commands of a borrower are
// outstanding, the borrower has already been told that the path is down, and PathDown follows here.
void SubsystemQueues::CloseUnused(PathQueue& path) {
  if (path.aborts > 0) return;
  if (path.queue && path.queue->queue_pair().outstanding() > 0) return;
  path.queue.reset();
  ReturnToLender(path);
}

void SubsystemQueues::RequestAbort(PathQueue& path, uint16_t cid) {
  ++path.aborts;
  events_.on_abort(path.path.path_id, path.path.epoch, path.path.options.queue_id, cid);
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
  if (path == nullptr || path->path.epoch != epoch || !path->queue) return;
  --path->aborts;
  path->queue->EndAbort(cid);
  if (users_ == 0) CloseUnused(*path);
}

}  // namespace sma::storage_target::bdev_nvme
