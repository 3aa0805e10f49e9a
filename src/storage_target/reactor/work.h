// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/uio.h>

#include <cstdint>

#include "base/intrusive_list.h"

// Structures that users of a reactor embed in their own objects, so that submitting work does not
// allocate.

namespace sma::storage_target {

/// Work that another thread sends to a reactor: embed a Message, set `run`, and call Reactor::Send.
/// The reactor owns it until `run` is called.
struct Message {
  void (*run)(Message& self) = nullptr;
  Message* next = nullptr;  // used by the message queue
};

/// Work to run once at the end of the current round, after everything readable has been read, such
/// as sending all responses of a round with one write. Scheduling it twice has no effect. If `run`
/// schedules this or another Deferred, that one runs in the next round, which follows without a
/// sleep. Embed it in the object that `run` works on: its destructor cancels it, so `run` never
/// sees a destroyed object. Use it on the reactor's thread only.
class Deferred : private base::ListLink<Deferred> {
 public:
  Deferred() = default;
  ~Deferred() { Cancel(); }
  Deferred(const Deferred&) = delete;
  Deferred& operator=(const Deferred&) = delete;

  bool scheduled() const { return base::IntrusiveList<Deferred>::Has(*this); }
  /// Idempotent. May be called from the `run` of any Deferred.
  void Cancel() {
    if (scheduled()) base::IntrusiveList<Deferred>::Remove(*this);
  }

  void (*run)(Deferred& self) = nullptr;

 private:
  friend class base::IntrusiveList<Deferred>;
};

/// The scheduled work of a reactor, in FIFO order.
class DeferredList : public base::IntrusiveList<Deferred> {
 public:
  DeferredList() = default;
  /// Cancels the remaining work.
  ~DeferredList() {
    while (!empty()) TakeFirst();
  }
  DeferredList(const DeferredList&) = delete;
  DeferredList& operator=(const DeferredList&) = delete;
};

/// An asynchronous operation on an open file. The caller owns all fields and must not change them
/// before `done` is called; the memory that `iovs` points to and `fd` must stay valid until then.
struct FileOp : base::ListLink<FileOp> {
  enum class Kind : uint8_t { kReadv, kWritev, kFsync, kFdatasync, kPunchHole, kZeroRange };
  Kind kind = Kind::kReadv;
  bool dsync = false;  // kWritev: durable on completion (RWF_DSYNC)
  int fd = -1;
  const iovec* iovs = nullptr;  // kReadv, kWritev
  uint32_t iov_count = 0;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;  // kPunchHole, kZeroRange
  /// Called on the reactor's thread with the system call's result: the number of bytes, or a
  /// negative errno. Never called from within Reactor::SubmitFileOp.
  void (*done)(FileOp& self, int64_t result) = nullptr;
  // Used by the backend.
  bool is_queued = false;  // has not started
  int64_t outcome = 0;
};

/// A callback for a watched descriptor. Runs on the reactor's thread.
class FdHandler {
 public:
  virtual ~FdHandler() = default;
  /// `events` holds the current bits among EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP and EPOLLERR
  /// (epoll_ctl(2)).
  virtual void OnFdReady(uint32_t events) = 0;
};

/// A source of work that has to be polled: a ring in shared memory, or a socket that is too busy
/// for epoll.
class Poller {
 public:
  virtual ~Poller() = default;
  /// Polls once; returns true if there was work. Called in every round. While pollers find work,
  /// the loop calls epoll in only some of its rounds.
  virtual bool Poll() = 0;
  /// Called before the loop sleeps. Asks the peer to send notifications through a watched
  /// descriptor from now on, then polls once more. Returns false if work has arrived in the
  /// meantime, in which case the loop does not sleep.
  virtual bool PrepareSleep() { return true; }
  /// Called after PrepareSleep when the loop continues, whether it slept or not. Notifications are
  /// no longer needed.
  virtual void AfterSleep() {}
};

/// An owner of work that waits, for example for a limit, memory or a path, and must not be executed
/// any more if the peer that requested it has left while this thread or the process was stopped.
class DelayWatch {
 public:
  virtual ~DelayWatch() = default;
  /// Called before other work of the reactor, if more than Reactor::kDelay has passed since the
  /// last call, with the present time (Reactor::now_ns may be older). Must end the waiting work of
  /// peers that have left. May remove this or other watches.
  virtual void OnDelay(uint64_t clock_ns) = 0;
};

}  // namespace sma::storage_target
