#pragma once

#include <memory>

#include "target/reactor/work.h"

namespace sma::target {

class Reactor;

/// How a reactor does file operations. The reactor's thread only.
class FileBackend {
 public:
  virtual ~FileBackend() = default;

  virtual bool is_io_uring() const = 0;
  virtual void Submit(FileOp& op) = 0;
  /// At the end of each round and before a sleep: hands to the kernel what was submitted.
  virtual void Flush() = 0;
  /// Calls `done` of what has completed, without a system call when nothing has. True when
  /// something had.
  virtual bool Reap() = 0;
  /// Readable while there is something to reap, for the sleeping loop; -1: completions come as
  /// messages.
  virtual int wait_fd() const = 0;
};

/// Null when the kernel refuses io_uring or one of the operations needed.
std::unique_ptr<FileBackend> MakeIoUringBackend();
/// A few threads that do blocking calls and answer by messages to `reactor`.
std::unique_ptr<FileBackend> MakeThreadPoolBackend(Reactor& reactor);

}  // namespace sma::target
