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
#include "target/reactor/file_backend.h"
#include "target/reactor/message_queue.h"
#include "target/reactor/timer_queue.h"
#include "target/reactor/work.h"

namespace sma::target {

/// An event loop with a thread of its own. What belongs to a reactor (a connection, a queue pair, a
/// virtqueue, a bdev channel) is touched in its thread only, so nothing on the I/O path takes a
/// lock.
///
/// A round of the loop: messages, pollers, completed file operations, ready descriptors, timers
/// that are due, deferred work, then the submission of file operations that the round queued. The
/// loop spins for Options::poll after the last work (timers do not count), twenty times as long
/// while file operations are under way, whose end is sure to come and mostly soon; then it sleeps
/// in the kernel until a descriptor is ready, a timer is due or a message comes: an idle reactor
/// costs no processor time.
///
/// The target has one reactor for each core given, which do I/O, and one more for the control plane
/// (`poll` 0), which serves JSON-RPC and owns the tables of bdevs and subsystems.
class Reactor {
 public:
  struct Options {
    int index = 0;                       // 0.. for I/O reactors; -1 for the control plane
    int cpu = -1;                        // the core to run on; -1: any
    std::chrono::microseconds poll{50};  // how long to spin after work
    bool io_uring = true;                // false: never use it; true: use it when the kernel has it
    std::string name = "reactor";        // the thread's name, 15 characters at most
  };
  using TimerId = TimerQueue::Id;  // never 0

  /// Starts a thread that runs the loop. Both abort the program when the kernel gives no epoll or
  /// eventfd descriptor.
  static std::unique_ptr<Reactor> Start(const Options& options);
  /// The same without a thread: the caller's, which becomes the reactor's, runs the loop by Run or
  /// RunUntil (the main thread of a program, a test, a load generator).
  static std::unique_ptr<Reactor> ForThisThread(const Options& options);

  /// Stops it. The watched descriptors, pollers, timers and deferred work left are dropped. No
  /// other thread may be using it any more: reactors that send to each other are all stopped before
  /// the first is destroyed.
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  /// The reactor whose thread this is; nullptr elsewhere.
  static Reactor* Current();

  // From any thread.

  /// Runs `task` in the reactor's thread, after what was posted or sent before by the same thread.
  /// Allocates: for the control plane.
  void Post(std::function<void()> task);
  /// The same without allocating: for the I/O path.
  void Send(Message& message);
  /// Posts `task` and waits until it has run. For start, stop and tests; never from a reactor's
  /// thread.
  void Invoke(const std::function<void()>& task);
  /// Ends the loop after the present round; messages that are queued by then are run first.
  void RequestStop();
  /// RequestStop, then joins the thread if Start made one. Not from the reactor's own thread in
  /// that case.
  void Stop();
  const Options& options() const { return options_; }
  /// Nanoseconds that the loop spent in rounds that found work, and in looking or sleeping without.
  uint64_t busy_ns() const { return busy_ns_.load(std::memory_order_relaxed); }
  uint64_t idle_ns() const;
  size_t poller_count() const { return poller_count_.load(std::memory_order_relaxed); }
  size_t timer_count() const { return timer_count_.load(std::memory_order_relaxed); }
  /// Kernel thread id (gettid(2)); 0 until the thread has started.
  int tid() const { return tid_.load(std::memory_order_relaxed); }

  // From the reactor's thread only.

  /// Watches `fd` (level-triggered) for EPOLLIN and/or EPOLLOUT; errors and hang-ups are always
  /// reported. 0 or a negative errno. The reactor does not own `fd` or `handler`.
  int Watch(int fd, uint32_t events, FdHandler* handler);
  int ModifyWatch(int fd, uint32_t events);
  /// Before closing `fd`. Afterwards its handler is not called any more, also not for events
  /// already fetched. Nothing when it is not watched.
  void Unwatch(int fd);

  void AddPoller(Poller* poller);
  /// May be called from Poll() itself.
  void RemovePoller(Poller* poller);

  /// Runs `task` once, `after` from now, to about a tenth of a millisecond when idle and a round
  /// when busy.
  TimerId AddTimer(std::chrono::nanoseconds after, std::function<void()> task);
  /// Nothing when it has run or is unknown. May be called from the task of this or another timer.
  void CancelTimer(TimerId id);

  void Defer(Deferred& deferred) {
    if (!deferred.scheduled()) deferred_.Append(deferred);
  }

  /// Queues `op`; operations queued in one round go to the kernel together.
  void SubmitFileOp(FileOp& op) {
    ++file_ops_;
    file_backend_->Submit(op);
  }
  /// Takes back `op`, which has not been answered. True: nothing of it was done, and `done` is not
  /// called. False: `done` is called, with -ECANCELED if the kernel could still leave it undone.
  bool CancelFileOp(FileOp& op) {
    if (!file_backend_->Cancel(op)) return false;
    --file_ops_;
    return true;
  }
  /// True when file operations go through io_uring, false when through a pool of threads.
  bool uses_io_uring() const { return file_backend_->is_io_uring(); }

  /// Monotonic nanoseconds (CLOCK_MONOTONIC), read once a round.
  uint64_t now_ns() const { return now_ns_; }

  /// ForThisThread only. Runs the loop until RequestStop.
  void Run();
  /// ForThisThread only. Runs rounds until `done` is true; false when `timeout` passed first.
  /// `done` is asked after each round, and every millisecond while there is nothing to do.
  bool RunUntil(const std::function<bool()>& done, std::chrono::nanoseconds timeout);

 private:
  // What is watched, by file descriptor. The generation tells an event for a descriptor that is no
  // longer watched from one for a new descriptor of the same number.
  struct Watched {
    FdHandler* handler = nullptr;
    uint32_t generation = 0;
  };

  explicit Reactor(const Options& options);
  void BindToThisThread();
  void Step(uint64_t until_ns);  // one round, after a sleep when it is time for one
  bool Round(bool ask_epoll);    // true when there was work, timers not counted
  bool RunMessages();
  bool RunPollers();
  bool ReapFileOps();
  bool RunDeferred();
  void Wake();
  void UpdateClock(bool busy);

  // reactor_wait.cc, with all that watches.
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

  // Shared with senders.
  MessageQueue messages_;
  std::atomic<bool> sleeping_{false};
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> busy_ns_{0};
  std::atomic<uint64_t> start_ns_{0};
  std::atomic<int> tid_{0};
  std::atomic<size_t> poller_count_{0};
  std::atomic<size_t> timer_count_{0};

  // The thread's.
  uint64_t now_ns_ = 0;
  uint64_t last_work_ns_ = 0;
  size_t file_ops_ = 0;  // submitted and not yet answered
  uint32_t rounds_without_epoll_ = 0;
  std::vector<Watched> watched_;
  std::vector<Poller*> pollers_;
  bool pollers_have_holes_ = false;
  size_t prepared_pollers_ = 0;
  TimerQueue timers_;
  DeferredList deferred_;
};

}  // namespace sma::target
