// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "storage_target/reactor/file_backend.h"
#include "storage_target/reactor/message_queue.h"
#include "storage_target/reactor/timer_queue.h"
#include "storage_target/reactor/work.h"

namespace sma::storage_target {

/// An event loop with its own thread. Objects that belong to a reactor (a connection, a queue pair,
/// a virtqueue, a bdev channel) are used only on its thread, so the I/O path takes no locks.
///
/// Each round runs, in this order: messages, pollers, completed file operations, ready descriptors,
/// due timers, deferred work, and the submission of the file operations queued in this round. After
/// the last work (timers do not count) the loop spins for Options::poll, and for twenty times as
/// long while file operations are in flight, because those usually complete soon. Then it sleeps in
/// the kernel until a descriptor is ready, a timer is due or a message arrives. An idle reactor
/// uses no CPU time.
///
/// Before each message and timer, and before each other kind of work except pollers, the loop calls
/// the DelayWatches if time has passed. So work that waited while the process was stopped is ended
/// before it continues.
///
/// The target has one reactor for each configured core, which executes I/O, and one control reactor
/// (`poll` 0), which serves JSON-RPC and owns the tables of bdevs and subsystems.
class Reactor {
 public:
  struct Options {
    int index = 0;  // the index of an I/O reactor, from 0; -1 for the control reactor
    int cpu = -1;   // the core to run on; -1 for any
    std::chrono::microseconds poll{50};  // how long to spin after work
    bool io_uring = true;                // use io_uring if the kernel supports it
    std::string name = "reactor";        // of the thread; at most 15 characters
  };
  using TimerId = TimerQueue::Id;  // never 0
  /// The least time between two calls of the DelayWatches.
  static constexpr std::chrono::milliseconds kDelay{50};

  /// Starts a thread that runs the loop. Start and ForThisThread abort the program if the kernel
  /// refuses an epoll or eventfd descriptor.
  static std::unique_ptr<Reactor> Start(const Options& options);
  /// Creates a reactor on the calling thread, which runs the loop with Run or RunUntil, for example
  /// the main thread of a program, a test or a load generator.
  static std::unique_ptr<Reactor> ForThisThread(const Options& options);

  /// Stops the reactor and drops its remaining watches, pollers, timers and deferred work. No other
  /// thread may still use it: if reactors send messages to each other, all of them must be stopped
  /// before the first one is destroyed.
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  /// Returns the reactor of the calling thread, or nullptr if the thread has none.
  static Reactor* Current();

  // The following functions may be called from any thread.

  /// Runs `task` on the reactor's thread, after everything that the calling thread posted or sent
  /// before. Allocates memory, so it is meant for the control plane.
  void Post(std::function<void()> task);
  /// Like Post, but does not allocate; meant for the I/O path.
  void Send(Message& message);
  /// Posts `task` and blocks until it has run. Meant for start, stop and tests; must not be called
  /// on a reactor's thread.
  void Invoke(const std::function<void()>& task);
  /// Ends the loop after the current round. Messages queued by then still run.
  void RequestStop();
  /// Calls RequestStop and joins the thread if Start created one; in that case it must not be
  /// called on the reactor's own thread.
  void Stop();
  const Options& options() const { return options_; }
  /// Return the nanoseconds spent in rounds that found work (busy), and in spinning or sleeping
  /// (idle).
  uint64_t busy_ns() const { return busy_ns_.load(std::memory_order_relaxed); }
  uint64_t idle_ns() const;
  size_t poller_count() const { return poller_count_.load(std::memory_order_relaxed); }
  size_t timer_count() const { return timer_count_.load(std::memory_order_relaxed); }
  /// Returns the kernel's thread id (gettid(2)); 0 until the thread has started.
  int tid() const { return tid_.load(std::memory_order_relaxed); }

  // The following functions may be called only on the reactor's thread.

  /// Watches `fd` for EPOLLIN and/or EPOLLOUT, level-triggered unless EPOLLET is set. Errors and
  /// hang-ups are always reported. Returns 0 or a negative errno. The caller keeps ownership of
  /// `fd` and `handler`.
  int Watch(int fd, uint32_t events, FdHandler* handler);
  int ModifyWatch(int fd, uint32_t events);
  /// Stops watching `fd`; must be called before `fd` is closed. The handler is not called
  /// afterwards, not even for events that epoll has already returned. Does nothing if `fd` is not
  /// watched.
  void Unwatch(int fd);

  void AddPoller(Poller* poller);
  /// Removes a poller. May be called from within Poll().
  void RemovePoller(Poller* poller);

  /// The caller keeps ownership. Both may be called from within OnDelay.
  void AddDelayWatch(DelayWatch* watch) { delay_watches_.push_back(watch); }
  void RemoveDelayWatch(DelayWatch* watch);

  /// Runs `task` once, after the time `after`. The task may be late by up to 0.1 ms on an idle
  /// reactor, and by one round on a busy one.
  TimerId AddTimer(std::chrono::nanoseconds after, std::function<void()> task);
  /// Does nothing if the timer has expired or is unknown. May be called from any timer's task.
  void CancelTimer(TimerId id);

  void Defer(Deferred& deferred) {
    if (!deferred.scheduled()) deferred_.Append(deferred);
  }

  /// Queues `op`. Operations queued in the same round are handed to the kernel together.
  void SubmitFileOp(FileOp& op) {
    ++file_ops_;
    file_backend_->Submit(op);
  }
  /// Cancels `op`, which has not completed. Returns true if nothing was executed; `done` is not
  /// called then. Returns false if `done` will be called, with -ECANCELED if the kernel could still
  /// skip the operation.
  bool CancelFileOp(FileOp& op) {
    if (!file_backend_->Cancel(op)) return false;
    --file_ops_;
    return true;
  }
  /// Returns true if file operations use io_uring, false if they use a thread pool.
  bool uses_io_uring() const { return file_backend_->is_io_uring(); }

  /// Returns the time of CLOCK_MONOTONIC in nanoseconds, read once in each round.
  uint64_t now_ns() const { return now_ns_; }

  /// Runs the loop until RequestStop. May be used only for reactors created by ForThisThread.
  void Run();
  /// Runs rounds until `done` returns true; returns false if `timeout` expires first. `done` is
  /// called after each round, and every millisecond while the loop is idle. May be used only for
  /// reactors created by ForThisThread.
  bool RunUntil(const std::function<bool()>& done, std::chrono::nanoseconds timeout);

 private:
  // The watched descriptors, indexed by number. The generation distinguishes events of a descriptor
  // that is no longer watched from those of a new descriptor with the same number.
  struct Watched {
    FdHandler* handler = nullptr;
    uint32_t generation = 0;
  };

  explicit Reactor(const Options& options);
  void BindToThisThread();
  void Step(uint64_t until_ns);  // one round, preceded by a sleep if the loop is idle
  bool Round(bool ask_epoll);    // returns true if there was work other than timers
  void CheckDelay();
  bool RunMessages();
  bool RunPollers();
  bool ReapFileOps();
  bool RunDeferred();
  void Wake();
  void UpdateClock(bool busy);

  // Defined in reactor_wait.cc, like Watch, ModifyWatch and Unwatch.
  bool WaitForEvents(uint64_t timeout_ns);
  bool Sleep(uint64_t until_ns);
  bool PreparePollers();
  void EndSleep();
  void WatchInternal(int fd);

  const Options options_;
  base::UniqueFd epoll_fd_;
  base::UniqueFd wake_fd_;
  std::unique_ptr<FileBackend> file_backend_;
  std::thread thread_;

  // Shared with the threads that send messages.
  MessageQueue messages_;
  std::atomic<bool> sleeping_{false};
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> busy_ns_{0};
  std::atomic<uint64_t> start_ns_{0};
  std::atomic<int> tid_{0};
  std::atomic<size_t> poller_count_{0};
  std::atomic<size_t> timer_count_{0};

  // Used only on the reactor's thread.
  uint64_t now_ns_ = 0;
  uint64_t last_work_ns_ = 0;
  size_t file_ops_ = 0;  // submitted and not completed
  uint32_t rounds_without_epoll_ = 0;
  std::vector<Watched> watched_;
  std::vector<Poller*> pollers_;
  bool pollers_have_holes_ = false;
  size_t prepared_pollers_ = 0;
  std::vector<DelayWatch*> delay_watches_;  // null: removed during CheckDelay
  uint64_t delay_checked_ns_ = 0;
  TimerQueue timers_;
  DeferredList deferred_;
};

}  // namespace sma::storage_target
