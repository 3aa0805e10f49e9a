// I/O of a reactor that has no queue pair of its own goes by messages to the reactor that lends it
// one, and its completion comes back the same way. Both allocate: the controller is short of
// queues anyway.

#include <algorithm>
#include <utility>

#include "target/bdev_modules/nvme/nvme_bdev.h"
#include "target/bdev_modules/nvme/path_queue.h"
#include "target/bdev_modules/nvme/subsystem_queues.h"

namespace sma::target::bdev_nvme {

using initiator::QueuePair;
using initiator::Request;

// The lender's queue pairs stay connected as long as somebody borrows one.
void SubsystemQueues::Borrow(PathQueue& path) {
  if (std::exchange(path.borrowing, true)) return;
  const Borrower borrower{path.path.path_id, path.path.epoch, weak_from_this()};
  path.path.lender->reactor_.Post([lender = path.path.lender, borrower] {
    lender->AddUser();
    lender->AddBorrower(borrower);
  });
}

void SubsystemQueues::GiveBack(PathQueue& path) {
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

// The borrower may be gone by now: those that are, and those of this address, are no more.
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

// In the lender's thread. What holds for the path is looked at again: it may have changed since the
// borrower chose it.
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

// In the lender's thread. The channel lives until its I/O has ended.
void SubsystemQueues::OnLentDone(Request& request, const nvme::Completion& completion) {
  NvmeIo& io = static_cast<NvmeIo&>(request);
  SubsystemQueues& queues = io.channel().queues();
  queues.reactor_.Post([&queues, &io, completion] {
    if (initiator::ConnectionLost(completion)) {
      // Until the lender says that it is connected, or the path that it is gone.
      for (auto& path : queues.paths_) {
        if (path->key() == io.path_key && path->path.lender) path->lender_ready = false;
      }
    }
    queues.Complete(io, completion);
  });
}

// The message arrives after that which sent the I/O, and before any that sends another one from the
// same memory: a request at this address is the same, if there is one.
void SubsystemQueues::AbortLent(PathQueue& path, NvmeIo& io) {
  Request* request = &io;
  path.path.lender->reactor_.Post([lender = path.path.lender, id = path.path.path_id, request] {
    PathQueue* lent = lender->Find(id);
    if (lent == nullptr || !lent->queue) return;
    uint16_t cid = 0;
    QueuePair::AbortResult result = lent->queue->Abort(*request, &cid);
    if (result == QueuePair::AbortResult::kSent) {
      lender->events_.on_abort(id, lent->path.epoch, lent->path.options.queue_id, cid);
    } else if (result == QueuePair::AbortResult::kWithdrawn) {
      OnLentDone(*request, {.status = nvme::StatusField(nvme::Status::kAbortRequested)});
    }
  });
}

}  // namespace sma::target::bdev_nvme
