// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <thread>

#include "base/intrusive_list.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "storage_target/reactor/file_backend.h"

namespace sma::storage_target {
namespace {

constexpr size_t kThreads = 4;

int64_t Run(const FileOp& op) {
  auto offset = static_cast<off_t>(op.offset_bytes);
  auto length = static_cast<off_t>(op.length_bytes);
  auto iov_count = static_cast<int>(op.iov_count);
  switch (op.kind) {
    case FileOp::Kind::kReadv:
      return ::preadv(op.fd, op.iovs, iov_count, offset);
    case FileOp::Kind::kWritev:
      return ::pwritev2(op.fd, op.iovs, iov_count, offset, op.dsync ? RWF_DSYNC : 0);
    case FileOp::Kind::kFsync:
      return ::fsync(op.fd);
    case FileOp::Kind::kFdatasync:
      return ::fdatasync(op.fd);
    case FileOp::Kind::kPunchHole:
      return ::fallocate(op.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    case FileOp::Kind::kZeroRange:
      return ::fallocate(op.fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
  }
  return -EINVAL;
}

int64_t RunToResult(const FileOp& op) {
  int64_t result = 0;
  do {
    result = Run(op);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

class ThreadPoolBackend : public FileBackend {
 public:
  ThreadPoolBackend() : done_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  ~ThreadPoolBackend() override {
    {
      base::MutexLock lock(mutex_);
      stop_ = true;
      work_.NotifyAll();
    }
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

  bool is_io_uring() const override { return false; }

  void Submit(FileOp& op) override {
    if (!threads_[0].joinable()) {
      for (std::thread& thread : threads_) thread = std::thread([this] { Work(); });
    }
    base::MutexLock lock(mutex_);
    op.is_queued = true;
    queued_.Append(op);
    work_.NotifyOne();
  }

  bool Cancel(FileOp& op) override {
    base::MutexLock lock(mutex_);
    if (!op.is_queued) return false;
    op.is_queued = false;
    queued_.Remove(op);
    return true;
  }

  bool Flush() override { return true; }

  size_t Reap() override {
    if (!any_done_.load(std::memory_order_acquire)) return 0;
    base::IntrusiveList<FileOp> ended;
    {
      base::MutexLock lock(mutex_);
      any_done_.store(false, std::memory_order_relaxed);
      ended.Take(done_);
    }
    size_t count = 0;
    for (; !ended.empty(); ++count) {
      FileOp& op = ended.TakeFirst();
      op.done(op, op.outcome);
    }
    return count;
  }

  int wait_fd() const override { return done_fd_.get(); }

 private:
  void Work() {
    mutex_.Lock();
    while (true) {
      while (queued_.empty() && !stop_) work_.Wait(mutex_);
      if (queued_.empty()) break;
      FileOp* op = &queued_.TakeFirst();
      op->is_queued = false;
      mutex_.Unlock();
      op->outcome = RunToResult(*op);
      mutex_.Lock();
      const bool first = done_.empty();
      done_.Append(*op);
      any_done_.store(true, std::memory_order_release);
      if (first) ::eventfd_write(done_fd_.get(), 1);
    }
    mutex_.Unlock();
  }

  base::UniqueFd done_fd_;
  base::Mutex mutex_;
  base::CondVar work_;
  bool stop_ SMA_GUARDED_BY(mutex_) = false;
  base::IntrusiveList<FileOp> queued_ SMA_GUARDED_BY(mutex_);
  base::IntrusiveList<FileOp> done_ SMA_GUARDED_BY(mutex_);
  std::atomic<bool> any_done_{false};
  std::array<std::thread, kThreads> threads_;
};

}  // namespace

std::unique_ptr<FileBackend> MakeThreadPoolBackend() {
  return std::make_unique<ThreadPoolBackend>();
}

}  // namespace sma::storage_target
