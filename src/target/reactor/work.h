#pragma once

#include <sys/uio.h>

#include <cstdint>

// The small structures that callers of a reactor embed in their own objects, so that handing over
// work allocates nothing.

namespace sma::target {

/// Work that another thread hands to a reactor: embed one, fill `run`, call Reactor::Send. The
/// sender gives it up until `run` is called.
struct Message {
  void (*run)(Message& self) = nullptr;
  Message* next = nullptr;  // the queue's
};

/// Work to do once at the end of the present round of the loop, when all that was readable has been
/// read: answers that go out together with one write, say. Scheduling a scheduled one again does
/// nothing. One that schedules itself (or another) while it runs is run in the next round, which
/// follows without a sleep. Embedded in the object that `run` works on: destroying it while it is
/// scheduled cancels it, so `run` never sees an object that is gone. The reactor's thread only.
class Deferred {
 public:
  Deferred() = default;
  ~Deferred() { Cancel(); }
  Deferred(const Deferred&) = delete;
  Deferred& operator=(const Deferred&) = delete;

  bool scheduled() const { return next_ != nullptr; }
  /// Idempotent. May be called from any Deferred's `run`.
  void Cancel() {
    if (next_ == nullptr) return;
    next_->previous_ = previous_;
    previous_->next_ = next_;
    next_ = previous_ = nullptr;
  }

  void (*run)(Deferred& self) = nullptr;

 private:
  friend class DeferredList;
  Deferred* next_ = nullptr;  // a circular list; null: not scheduled
  Deferred* previous_ = nullptr;
};

/// The scheduled work of a reactor, first in, first out.
class DeferredList {
 public:
  DeferredList() { head_.next_ = head_.previous_ = &head_; }
  /// Cancels all that is left.
  ~DeferredList() {
    while (!empty()) head_.next_->Cancel();
  }

  bool empty() const { return head_.next_ == &head_; }
  /// `deferred` must not be scheduled.
  void Append(Deferred& deferred) {
    deferred.next_ = &head_;
    deferred.previous_ = head_.previous_;
    head_.previous_->next_ = &deferred;
    head_.previous_ = &deferred;
  }
  /// Moves all of `other` to this list, which must be empty.
  void Take(DeferredList& other) {
    if (other.empty()) return;
    head_.next_ = other.head_.next_;
    head_.previous_ = other.head_.previous_;
    head_.next_->previous_ = head_.previous_->next_ = &head_;
    other.head_.next_ = other.head_.previous_ = &other.head_;
  }
  /// The list must not be empty. The result is no longer scheduled.
  Deferred& PopFirst() {
    Deferred& first = *head_.next_;
    first.Cancel();
    return first;
  }

 private:
  Deferred head_;
};

/// One operation on an open file, answered later. All fields are the caller's and must stay as they
/// are until `done`; so must the memory that `iovs` points to, and `fd` must stay open.
struct FileOp {
  enum class Kind : uint8_t { kReadv, kWritev, kFsync, kFdatasync, kPunchHole, kZeroRange };
  Kind kind = Kind::kReadv;
  bool dsync = false;  // kWritev: durable when done (RWF_DSYNC)
  int fd = -1;
  const iovec* iovs = nullptr;  // kReadv, kWritev
  uint32_t iov_count = 0;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;  // kPunchHole, kZeroRange
  /// Called in the reactor's thread with what the system call returned: bytes done, or a negative
  /// errno. Never called from within Reactor::SubmitFileOp.
  void (*done)(FileOp& self, int64_t result) = nullptr;
  FileOp* next = nullptr;  // the queue's
  int64_t outcome = 0;     // the queue's
};

/// Told when a watched file descriptor is ready. Runs in the reactor's thread.
class FdHandler {
 public:
  virtual ~FdHandler() = default;
  /// `events`: the bits EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR that hold now
  /// (epoll_ctl(2)).
  virtual void OnFdReady(uint32_t events) = 0;
};

/// Something that finds work by looking: a ring in shared memory, or a socket too busy to ask epoll
/// about.
class Poller {
 public:
  virtual ~Poller() = default;
  /// Looks once; true when there was work. Called in every round. While pollers find work the loop
  /// asks epoll in some of its rounds only.
  virtual bool Poll() = 0;
  /// Called before the loop sleeps: ask the other side to send notifications (through a watched
  /// descriptor) from now on, then look once more. False when work came in meanwhile: the loop does
  /// not sleep.
  virtual bool PrepareSleep() { return true; }
  /// Called after PrepareSleep when the loop goes on, slept or not: notifications are no longer
  /// needed.
  virtual void AfterSleep() {}
};

}  // namespace sma::target
