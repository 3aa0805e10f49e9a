// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <liburing.h>

#include <array>

#include "base/intrusive_list.h"
#include "storage_target/reactor/file_backend.h"

namespace sma::storage_target {
namespace {

constexpr unsigned kSubmissionEntries = 256;
constexpr unsigned kCompletionEntries = 4096;
// Number of operations that are submitted to the kernel at a time. If a whole round is submitted at
// once, the disk also completes it all together and then idles while the host and the target
// process the responses; submitting one at a time costs a system call for each operation.
constexpr unsigned kOperationsTogether = 2;
constexpr std::array kOperations = {IORING_OP_READV, IORING_OP_READ,  IORING_OP_WRITEV,
                                    IORING_OP_WRITE, IORING_OP_FSYNC, IORING_OP_FALLOCATE};

bool HasOperations(io_uring& ring) {
  io_uring_probe* probe = ::io_uring_get_probe_ring(&ring);
  if (probe == nullptr) return false;
  bool all = true;
  for (int operation : kOperations) all = all && ::io_uring_opcode_supported(probe, operation);
  ::io_uring_free_probe(probe);
  return all;
}

void PrepareRead(io_uring_sqe* sqe, const FileOp& op) {
  if (op.iov_count == 1) {
    ::io_uring_prep_read(sqe, op.fd, op.iovs->iov_base, static_cast<unsigned>(op.iovs->iov_len),
                         op.offset_bytes);
  } else {
    ::io_uring_prep_readv(sqe, op.fd, op.iovs, op.iov_count, op.offset_bytes);
  }
}

void PrepareWrite(io_uring_sqe* sqe, const FileOp& op) {
  if (op.iov_count == 1) {
    ::io_uring_prep_write(sqe, op.fd, op.iovs->iov_base, static_cast<unsigned>(op.iovs->iov_len),
                          op.offset_bytes);
  } else {
    ::io_uring_prep_writev(sqe, op.fd, op.iovs, op.iov_count, op.offset_bytes);
  }
  if (op.dsync) sqe->rw_flags = RWF_DSYNC;
}

void PrepareFallocate(io_uring_sqe* sqe, const FileOp& op, int mode) {
  ::io_uring_prep_fallocate(sqe, op.fd, mode | FALLOC_FL_KEEP_SIZE,
                            static_cast<off_t>(op.offset_bytes),
                            static_cast<off_t>(op.length_bytes));
}

void Prepare(io_uring_sqe* sqe, FileOp& op) {
  switch (op.kind) {
    case FileOp::Kind::kReadv:
      PrepareRead(sqe, op);
      break;
    case FileOp::Kind::kWritev:
      PrepareWrite(sqe, op);
      break;
    case FileOp::Kind::kFsync:
      ::io_uring_prep_fsync(sqe, op.fd, 0);
      break;
    case FileOp::Kind::kFdatasync:
      ::io_uring_prep_fsync(sqe, op.fd, IORING_FSYNC_DATASYNC);
      break;
    case FileOp::Kind::kPunchHole:
      PrepareFallocate(sqe, op, FALLOC_FL_PUNCH_HOLE);
      break;
    case FileOp::Kind::kZeroRange:
      PrepareFallocate(sqe, op, FALLOC_FL_ZERO_RANGE);
      break;
  }
  ::io_uring_sqe_set_data(sqe, &op);
}

class IoUringBackend : public FileBackend {
 public:
  ~IoUringBackend() override {
    if (initialised_) ::io_uring_queue_exit(&ring_);
  }

  bool Init() {
    // Completions are delivered in this thread's next system call, which the loop makes anyway,
    // instead of interrupting the thread. Needs Linux 5.19; older kernels use interrupts.
    io_uring_params params{};
    params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    params.cq_entries = kCompletionEntries;
    int error = ::io_uring_queue_init_params(kSubmissionEntries, &ring_, &params);
    if (error == -EINVAL) {
      params = {};
      params.flags = IORING_SETUP_CQSIZE;
      params.cq_entries = kCompletionEntries;
      error = ::io_uring_queue_init_params(kSubmissionEntries, &ring_, &params);
    }
    initialised_ = error == 0;
    return initialised_ && HasOperations(ring_);
  }

  bool is_io_uring() const override { return true; }

  void Submit(FileOp& op) override {
    if (waiting_.empty() && TryPrepare(op)) {
      // Operations that the kernel does not accept now are submitted by Flush.
      if (::io_uring_sq_ready(&ring_) >= kOperationsTogether) ::io_uring_submit(&ring_);
      return;
    }
    waiting_.Append(op);
  }

  // The kernel cancels an operation only if it is still queued for a worker thread. The result of
  // the cancellation request itself is ignored (its user data are null).
  bool Cancel(FileOp& op) override {
    if (waiting_.Has(op)) {
      waiting_.Remove(op);
      return true;
    }
    if (io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_); sqe != nullptr) {
      ::io_uring_prep_cancel(sqe, &op, 0);
      ::io_uring_sqe_set_data(sqe, nullptr);
    }
    return false;
  }

  bool Flush() override {
    while (::io_uring_sq_ready(&ring_) != 0 || !waiting_.empty()) {
      PrepareWaiting();
      if (::io_uring_submit(&ring_) <= 0) return false;
    }
    return true;
  }

  size_t Reap() override {
    if (IO_URING_READ_ONCE(*ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) {
      ::io_uring_get_events(&ring_);
    }
    std::array<io_uring_cqe*, 64> entries;
    unsigned count = ::io_uring_peek_batch_cqe(&ring_, entries.data(), entries.size());
    size_t ops = 0;
    // Each entry is released before `done` runs, because `done` may submit.
    for (unsigned i = 0; i < count; ++i) {
      auto* op = static_cast<FileOp*>(::io_uring_cqe_get_data(entries[i]));
      int64_t result = entries[i]->res;
      ::io_uring_cqe_seen(&ring_, entries[i]);
      if (op == nullptr) continue;  // the completion of a cancellation request
      op->done(*op, result);
      ++ops;
    }
    return ops;
  }

  int wait_fd() const override { return ring_.ring_fd; }

 private:
  bool TryPrepare(FileOp& op) {
    io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
    if (sqe == nullptr) return false;
    Prepare(sqe, op);
    return true;
  }

  void PrepareWaiting() {
    while (!waiting_.empty() && TryPrepare(*waiting_.first())) waiting_.TakeFirst();
  }

  io_uring ring_{};
  bool initialised_ = false;
  base::IntrusiveList<FileOp> waiting_;  // operations that found the ring full
};

}  // namespace

std::unique_ptr<FileBackend> MakeIoUringBackend() {
  auto backend = std::make_unique<IoUringBackend>();
  if (!backend->Init()) return nullptr;
  return backend;
}

}  // namespace sma::storage_target
