#pragma once

#include <cstddef>
#include <memory>

#include "target/reactor/work.h"

namespace sma::target {

/// How a reactor does file operations. The reactor's thread only.
class FileBackend {
 public:
  virtual ~FileBackend() = default;

  virtual bool is_io_uring() const = 0;
  virtual void Submit(FileOp& op) = 0;
  /// Takes back `op`, which was submitted and whose `done` was not called. True: it is the caller's
  /// again, nothing of it was done, and `done` is not called. False: `done` is called; with
  /// -ECANCELED where the kernel could still leave it undone.
  virtual bool Cancel(FileOp& op) = 0;
  /// At the end of each round: hands to the kernel what was submitted. False when it would not take
  /// all now.
  virtual bool Flush() = 0;
  /// Calls `done` of what has completed, without a system call when nothing has. How many
  /// operations that were.
  virtual size_t Reap() = 0;
  /// Becomes readable, in epoll's edge-triggered sense, when there is something new to reap.
  virtual int wait_fd() const = 0;
};

/// Null when the kernel refuses io_uring or lacks one of the operations needed. In the reactor's
/// thread.
std::unique_ptr<FileBackend> MakeIoUringBackend();
/// A few threads that do blocking calls, started with the first operation.
std::unique_ptr<FileBackend> MakeThreadPoolBackend();

}  // namespace sma::target
