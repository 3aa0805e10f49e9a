// SPDX-License-Identifier: Apache-2.0

// I/O of a reactor that has no queue pair of its own is sent with messages to the reactor that
// lends it one, and the completion returns in the same way. Both messages allocate memory, which is
// acceptable because this is needed only if the controller allows too few queues.

#include <algorithm>
#include <utility>

#include "storage_target/bdev_modules/nvme/nvme_bdev.h"
#include "storage_target/bdev_modules/nvme/path_queue.h"
#include "storage_target/bdev_modules/nvme/subsystem_queues.h"

namespace sma::storage_target::bdev_nvme {

using initiator::QueuePair;
using initiator::Request;

// Borrows a queue pair. The lender's queue pairs stay connected as long as a reactor borrows one.
void SubsystemQueues::Borrow(PathQueue& path) {
  if (std::exchange(path.borrowing, true)) return;
  const Borrower borrower{path.path.path_id, path.path.epoch, weak_from_this()};
  path.path.lender->reactor_.Post([lender = path.path.lender, borrower] {
    lender->AddUser();
    lender->AddBorrower(borrower);
  });
}

void SubsystemQueues::ReturnToLender(PathQueue& path) {
  path.lender_ready = false;
  if (!std::exchange(path.borrowing, false)) return;
  path.path.lender->reactor_.Post([lender = path.path.lender, id = path.path.path_id,
                                   self = static_cast<const SubsystemQueues*>(this)] {
    lender->RemoveBorrower(id, self);
    lender->RemoveUser();
  });
}

void SubsystemQueues::AddBorrower(const Borrower& borrower) {
  borrowers_.push_back(borrower);
  const PathQueue* path = Find(borrower.path_id);
  if (path != nullptr && path->ready()) TellBorrowers(*path);
}

// The borrower may be destroyed by now, so expired entries are removed together with this one.
void SubsystemQueues::RemoveBorrower(uint64_t path_id, const SubsystemQueues* queues) {
  std::erase_if(borrowers_, [&](const Borrower& borrower) {
    auto alive = borrower.queues.lock();
    return !alive || (borrower.path_id == path_id && alive.get() == queues);
  });
}

void SubsystemQueues::TellBorrowers(const PathQueue& path) {
  for (const Borrower& borrower : borrowers_) {
    if (borrower.path_id != path.path.path_id || borrower.epoch != path.path.epoch) continue;
    auto queues = borrower.queues.lock();
    if (!queues) continue;
    queues->reactor_.Post([queues, id = borrower.path_id, epoch = borrower.epoch] {
      queues->OnLenderReady(id, epoch);
    });
  }
}

void SubsystemQueues::OnLenderReady(uint64_t path_id, uint64_t epoch) {
  PathQueue* path = Find(path_id);
  if (path == nullptr || path->path.epoch != epoch || !path->borrowing) return;
  path->lender_ready = true;
  SubmitWaiting();
}

void SubsystemQueues::SendLent(PathQueue& path, NvmeIo& io) {
  io.state = NvmeIo::State::kLent;
  path.path.lender->reactor_.Post([lender = path.path.lender, id = path.path.path_id,
                                   epoch = path.path.epoch,
                                   &io] { lender->ExecuteLent(id, epoch, io); });
}

// Runs in the lender's thread. The state of the path is checked again, because it may have changed
// since the borrower chose the path.
void SubsystemQueues::ExecuteLent(uint64_t path_id, uint64_t epoch, NvmeIo& io) {
  io.done = OnLentDone;
  PathQueue* path = Find(path_id);
  bool usable = path != nullptr && path->path.epoch == epoch && path->ready() &&
                path->Shows(io.channel().disk());
  if (usable && path->queue->Submit(io)) return;
  nvme::Completion lost;
  lost.sq_id = initiator::kLostConnectionSqId;
  lost.status = nvme::StatusField(nvme::Status::kHostPathingError);
  OnLentDone(io, lost);
}

// Runs in the lender's thread. The channel exists until its I/O has ended.
void SubsystemQueues::OnLentDone(Request& request, const nvme::Completion& completion) {
  NvmeIo& io = static_cast<NvmeIo&>(request);
  SubsystemQueues& queues = io.channel().queues();
  queues.reactor_.Post([&queues, &io, completion] { queues.EndLent(io, completion); });
}

void SubsystemQueues::EndLent(NvmeIo& io, const nvme::Completion& completion) {
  const bool lost = initiator::ConnectionLost(completion);
  if (lost) {
    // The path stays unusable until the lender reports that its queue pair is connected, or until
    // the path is removed.
    for (auto& path : paths_) {
      if (path->key() == io.path_key && path->path.lender) path->lender_ready = false;
    }
  }
  if (!io.abort_asked) return Complete(io, completion);
  io.answered = true;
  io.lost = lost;
  io.answer_status = completion.status;
}

void SubsystemQueues::AbortLent(PathQueue& path, NvmeIo& io) {
  if (std::exchange(io.abort_asked, true)) return;
  path.path.lender->reactor_.Post([this, lender = path.path.lender, id = path.path.path_id, &io] {
    lender->AbortBorrowed(id, io);
    reactor_.Post([this, &io] { EndAbortLent(io); });
  });
}

// Runs in the lender's thread, after the message that sent the I/O.
void SubsystemQueues::AbortBorrowed(uint64_t path_id, NvmeIo& io) {
  PathQueue* path = Find(path_id);
  if (path == nullptr || !path->queue) return;
  uint16_t cid = 0;
  QueuePair::AbortResult result = path->queue->Abort(io, &cid);
  if (result == QueuePair::AbortResult::kSent) {
    RequestAbort(*path, cid);
  } else if (result == QueuePair::AbortResult::kWithdrawn) {
    OnLentDone(io, {.status = nvme::StatusField(nvme::Status::kAbortRequested)});
  }
}

// The channel, and with it this object, exists until the I/O has ended, which is here at the
// earliest.
void SubsystemQueues::EndAbortLent(NvmeIo& io) {
  io.abort_asked = false;
  if (!io.answered) return;
  nvme::Completion completion{.status = io.answer_status};
  if (io.lost) completion.sq_id = initiator::kLostConnectionSqId;
  Complete(io, completion);
}

}  // namespace sma::storage_target::bdev_nvme
