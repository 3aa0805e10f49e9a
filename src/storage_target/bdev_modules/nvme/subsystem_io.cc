// SPDX-License-Identifier: Apache-2.0

// Processing of an I/O on the paths of a remote subsystem.

#include <algorithm>
#include <utility>

#include "storage_target/bdev_modules/nvme/nvme_bdev.h"
#include "storage_target/bdev_modules/nvme/path_queue.h"
#include "storage_target/bdev_modules/nvme/subsystem_queues.h"

namespace sma::storage_target::bdev_nvme {

using bdev::IoQueue;
using bdev::IoStatus;
using initiator::QueuePair;
using initiator::Request;

namespace {

// The pause before a failed command is retried.
constexpr std::chrono::milliseconds kRetryPause{100};
constexpr uint64_t kNsPerMs = 1'000'000;

// Returns the milliseconds from `now_ms` to `due_ms`, both modulo 2^32.
int32_t MsUntil(uint32_t due_ms, uint32_t now_ms) { return static_cast<int32_t>(due_ms - now_ms); }

}  // namespace

SubsystemQueues::PathQueue* SubsystemQueues::Choose(const DiskKey& disk) {
  const size_t start = policy_ == MultipathPolicy::kActiveActive ? turn_++ : 0;
  const uint64_t now_ns = reactor_.now_ns();
  PathQueue* second_best = nullptr;
  for (size_t i = 0; i < paths_.size(); ++i) {
    PathQueue& path = *paths_[(start + i) % paths_.size()];
    PathQueue::Access access = path.AccessTo(disk, now_ns);
    if (access == PathQueue::Access::kOptimized) return &path;
    if (access != PathQueue::Access::kNo && second_best == nullptr) second_best = &path;
  }
  return second_best;
}

void SubsystemQueues::Submit(NvmeIo& io) {
  if (io.aborted) return io.channel().Finish(io, IoStatus::kAborted);
  const DiskKey& disk = io.channel().disk();
  PathQueue* path = Choose(disk);
  if (path == nullptr) return Wait(io);
  io.MakeCommand(path->path.limits, path->path.disks[disk.slot].force_fua);
  io.path_key = path->key();
  if (path->path.lender) return SendLent(*path, io);
  io.done = OnCommandDone;
  io.state = NvmeIo::State::kSent;
  path->queue->Submit(io);
}

void SubsystemQueues::Wait(NvmeIo& io) {
  const DiskKey& disk = io.channel().disk();
  const DiskState& state = StateOf(disk);
  if (disk.serial <= state.gone_serial) return io.channel().Finish(io, IoStatus::kGone);
  // A path in back-off still counts as a path.
  uint64_t back_off_end_ns = 0;
  for (const auto& path : paths_) {
    if (!path->ready() || !path->Shows(disk)) continue;
    uint64_t until_ns = path->back_offs[disk.slot].until_ns;
    if (until_ns > reactor_.now_ns() && (back_off_end_ns == 0 || until_ns < back_off_end_ns)) {
      back_off_end_ns = until_ns;
    }
  }
  bool failing = failing_ || disk.serial == state.failing_serial;
  if (failing && back_off_end_ns == 0) return io.channel().Finish(io, IoStatus::kFailed);
  io.state = NvmeIo::State::kWaiting;
  waiting_.Append(*io.io);
  if (back_off_end_ns != 0) WakeAt(back_off_end_ns);
}

// Submits all waiting I/Os, because the usable paths depend on the disk; those that have none are
// appended to the list again.
void SubsystemQueues::SubmitWaiting() {
  IoQueue waiting;
  waiting.Take(waiting_);
  while (!waiting.empty()) Submit(NvmeIo::Of(waiting.TakeFirst()));
}

bool SubsystemQueues::Abort(NvmeIo& io) {
  io.aborted = true;
  if (io.state == NvmeIo::State::kWaiting || io.state == NvmeIo::State::kDelayed) {
    if (!IoQueue::Has(*io.io)) return false;  // its submission is in progress
    IoQueue::Remove(*io.io);
    io.channel().Finish(io, IoStatus::kAborted);
    return true;
  }
  for (auto& path : paths_) {
    if (path->key() == io.path_key) return AbortSent(*path, io);
  }
  return false;  // its connection is being closed
}

bool SubsystemQueues::AbortSent(PathQueue& path, NvmeIo& io) {
  if (io.state == NvmeIo::State::kLent) {
    AbortLent(path, io);
    return false;
  }
  if (!path.queue) return false;
  uint16_t cid = 0;
  switch (path.queue->Abort(io, &cid)) {
    case QueuePair::AbortResult::kWithdrawn:
      io.channel().Finish(io, IoStatus::kAborted);
      return true;
    case QueuePair::AbortResult::kSent:
      RequestAbort(path, cid);
      return false;
    case QueuePair::AbortResult::kAlreadySent:
    case QueuePair::AbortResult::kNotHere:
      return false;
  }
  return false;
}

void SubsystemQueues::AbortWaiting(const NvmeChannel& channel) {
  auto is_of_channel = [&](const bdev::Io& io) { return io.channel == &channel; };
  End(waiting_, is_of_channel, IoStatus::kAborted);
  End(delayed_, is_of_channel, IoStatus::kAborted);
}

void SubsystemQueues::OnCommandDone(Request& request, const nvme::Completion& completion) {
  NvmeIo& io = static_cast<NvmeIo&>(request);
  io.channel().queues().Complete(io, completion);
}

void SubsystemQueues::Complete(NvmeIo& io, const nvme::Completion& completion) {
  NvmeChannel& channel = io.channel();
  bool lost = initiator::ConnectionLost(completion);
  bool succeeded = !lost && nvme::StatusOf(completion.status) == nvme::Status::kSuccess;
  if (succeeded && io.Advance()) return channel.Finish(io, IoStatus::kOk);
  // See FailHeldOfRemovedDisks.
  if (lost && nvme::StatusOf(completion.status) == nvme::Status::kInvalidNamespaceOrFormat) {
    return channel.Finish(io, IoStatus::kGone);
  }
  StatusAction action = lost ? StatusAction::kOtherPath : ActionFor(completion.status);
  bool more = succeeded || action != StatusAction::kComplete;
  // No further command is sent for an aborted I/O or while the channel is being reset.
  if (more && (io.aborted || channel.resetting())) return channel.Finish(io, IoStatus::kAborted);
  if (succeeded || lost) return Submit(io);
  if (action == StatusAction::kOtherPath) return OnPathError(io, completion);
  bool last = retry_count_ >= 0 && io.retries >= retry_count_;
  if (action == StatusAction::kComplete || last) {
    return channel.Finish(io, ToIoStatus(completion.status));
  }
  if (io.retries < UINT16_MAX) ++io.retries;
  std::chrono::milliseconds pause = kRetryPause;
  for (const auto& path : paths_) {
    unsigned index = nvme::RetryDelayIndex(completion.status);
    if (path->key() == io.path_key && index != 0) pause = path->path.retry_delays[index];
  }
  RetryLater(io, pause);
}

// The connected path reports that it cannot execute the command (NVMe Base 2.0 §3.3.3.2.1, "Path
// Related Status").
void SubsystemQueues::OnPathError(NvmeIo& io, const nvme::Completion& completion) {
  const DiskKey& disk = io.channel().disk();
  for (auto& path : paths_) {
    if (path->key() != io.path_key) continue;
    unsigned index = nvme::RetryDelayIndex(completion.status);
    if (path->Shows(disk))
      path->BackOffDisk(disk, reactor_.now_ns(), path->path.retry_delays[index]);
    if (IsAnaStatus(completion.status)) events_.on_ana_status(path->path.path_id);
  }
  Submit(io);
}

void SubsystemQueues::RetryLater(NvmeIo& io, std::chrono::milliseconds pause) {
  uint64_t due_ns = reactor_.now_ns() + static_cast<uint64_t>(pause.count()) * kNsPerMs;
  io.state = NvmeIo::State::kDelayed;
  io.due_ms = static_cast<uint32_t>(due_ns / kNsPerMs);
  delayed_.Append(*io.io);
  WakeAt(due_ns);
}

void SubsystemQueues::WakeAt(uint64_t due_ns) {
  if (timer_ != 0 && timer_due_ns_ <= due_ns) return;
  reactor_.CancelTimer(timer_);
  uint64_t now_ns = reactor_.now_ns();
  // One millisecond is added because due_ms is rounded.
  uint64_t after_ns = (due_ns > now_ns ? due_ns - now_ns : 0) + kNsPerMs;
  timer_due_ns_ = due_ns;
  timer_ = reactor_.AddTimer(std::chrono::nanoseconds(after_ns), [this] { OnTimer(); });
}

void SubsystemQueues::OnTimer() {
  timer_ = 0;
  const auto now_ms = static_cast<uint32_t>(reactor_.now_ns() / kNsPerMs);
  int32_t next_ms = INT32_MAX;
  for (bdev::Io* io = delayed_.first(); io != nullptr;) {
    bdev::Io* next = delayed_.After(*io);
    int32_t left_ms = MsUntil(NvmeIo::Of(*io).due_ms, now_ms);
    if (left_ms > 0) {
      next_ms = std::min(next_ms, left_ms);
    } else {
      IoQueue::Remove(*io);
      waiting_.Append(*io);
    }
    io = next;
  }
  if (next_ms != INT32_MAX) {
    WakeAt(reactor_.now_ns() + static_cast<uint64_t>(next_ms) * kNsPerMs);
  }
  SubmitWaiting();
}

}  // namespace sma::storage_target::bdev_nvme
