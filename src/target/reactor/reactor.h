#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace sma::target {

/// Work that another thread hands to a reactor without allocating: embed one, fill `run`, call Reactor::Send. The
/// sender gives it up until `run` is called.
struct Message {
  void (*run)(Message& self) = nullptr;
  Message* next = nullptr;  // the queue's
};

/// Work to do once at the end of the present round of the loop, when all that was readable has been read: answers
/// that go out together with one write, say. Embed one; scheduling a scheduled one again does nothing.
struct Deferred {
  void (*run)(Deferred& self) = nullptr;
  Deferred* next = nullptr;  // the list's
  bool scheduled = false;    // the list's
};

/// One operation on an open file, answered later. Embed one; all fields but `done`'s arguments are the caller's
/// and must stay as they are until `done`.
struct FileOp {
  enum class Kind : uint8_t { kReadv, kWritev, kFsync, kFdatasync, kPunchHole, kZeroRange };
  Kind kind = Kind::kReadv;
  bool dsync = false;  // kWritev: durable when done (RWF_DSYNC)
  int fd = -1;
  const iovec* iovs = nullptr;  // kReadv, kWritev
  uint32_t iov_count = 0;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;  // kPunchHole, kZeroRange
  /// Called in the reactor's thread with what the system call returned: bytes done, or a negative errno.
  void (*done)(FileOp& self, int64_t result) = nullptr;
  FileOp* next = nullptr;  // the queue's
};

/// Told when a watched file descriptor is ready. Runs in the reactor's thread.
class FdHandler {
 public:
  virtual ~FdHandler() = default;
  /// `events`: the bits EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR that hold now (epoll_ctl(2)).
  virtual void OnFdReady(uint32_t events) = 0;
};

/// Something that finds work by looking, not by a file descriptor (a ring in shared memory, say).
class Poller {
 public:
  virtual ~Poller() = default;
  /// Looks once; true when there was work. Called in every round.
  virtual bool Poll() = 0;
  /// Called before the loop sleeps: ask the other side to send notifications (through a watched descriptor) from now
  /// on, then look once more. False when work came in meanwhile: the loop does not sleep.
  virtual bool PrepareSleep() { return true; }
  /// Called after a sleep: notifications are no longer needed.
  virtual void AfterSleep() {}
};

/// An event loop with a thread of its own. What belongs to a reactor (a connection, a queue pair, a virtqueue, a bdev
/// channel) is touched in its thread only, so nothing on the I/O path takes a lock.
///
/// The loop spins for Options::poll after the last work, then sleeps in the kernel until a descriptor is ready, a
/// timer is due or a message comes: an idle reactor costs no processor time.
///
/// The target has one reactor for each core given, which do I/O, and one more for the control plane (`poll` 0), which
/// serves JSON-RPC and owns the tables of bdevs and subsystems.
class Reactor {
 public:
  struct Options {
    int index = 0;                          // 0.. for I/O reactors; -1 for the control plane
    int cpu = -1;                           // the core to run on; -1: any
    std::chrono::microseconds poll{50};     // how long to spin after work
    bool io_uring = true;                   // false: never use it; true: use it when the kernel has it
    const char* name = "reactor";           // the thread's name, 15 characters at most
  };
  using TimerId = uint64_t;  // never 0

  /// Starts the thread. Aborts the program when the kernel gives no epoll or eventfd descriptor.
  static std::unique_ptr<Reactor> Start(const Options& options);

  virtual ~Reactor() = default;

  /// The reactor whose thread this is; nullptr elsewhere.
  static Reactor* Current();

  // From any thread.

  /// Runs `task` in the reactor's thread, after what was posted before by the same thread. Allocates: for the
  /// control plane.
  virtual void Post(std::function<void()> task) = 0;
  /// The same without allocating: for the I/O path.
  virtual void Send(Message& message) = 0;
  /// Ends the loop after the present round and joins the thread. What is still queued is run first. Not from the
  /// reactor's own thread.
  virtual void Stop() = 0;
  virtual const Options& options() const = 0;
  /// Nanoseconds of the monotonic clock that the loop spent with work found, and looking or sleeping without.
  virtual uint64_t busy_ns() const = 0;
  virtual uint64_t idle_ns() const = 0;
  virtual int tid() const = 0;

  // From the reactor's thread only.

  /// Watches `fd` (level-triggered) for EPOLLIN and/or EPOLLOUT; errors and hang-ups are always reported. 0 or a
  /// negative errno. The reactor does not own `fd` or `handler`.
  virtual int Watch(int fd, uint32_t events, FdHandler* handler) = 0;
  virtual int ModifyWatch(int fd, uint32_t events, FdHandler* handler) = 0;
  /// Before closing `fd`. Afterwards `handler` is not called any more, also not for events already fetched.
  virtual void Unwatch(int fd) = 0;

  virtual void AddPoller(Poller* poller) = 0;
  /// May be called from Poll() itself.
  virtual void RemovePoller(Poller* poller) = 0;

  /// Runs `task` once, `after` from now, to about a millisecond.
  virtual TimerId AddTimer(std::chrono::nanoseconds after, std::function<void()> task) = 0;
  /// Nothing when it has run or is unknown.
  virtual void CancelTimer(TimerId id) = 0;

  virtual void Defer(Deferred& deferred) = 0;

  /// Queues `op`; operations queued in one round go to the kernel together.
  virtual void SubmitFileOp(FileOp& op) = 0;
  /// True when file operations go through io_uring, false when through a pool of threads.
  virtual bool uses_io_uring() const = 0;

  /// Monotonic nanoseconds, read once a round.
  virtual uint64_t now_ns() const = 0;
};

}  // namespace sma::target
