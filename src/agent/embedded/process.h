#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sma::embedded {

/// Another process, by a descriptor that never means a later process of the same number
/// (pidfd_open(2)). Movable. Not synchronised.
class Process {
 public:
  /// Starts `argv[0]` (a path) in a session of its own, with all signals as they are by default,
  /// standard input from /dev/null, and standard output and error appended to `log_file`, or to
  /// this process's standard error where that is empty. No other descriptor goes along, and it does
  /// not end with this process. The status says why it could not be started.
  static absl::StatusOr<Process> Spawn(const std::vector<std::string>& argv,
                                       const std::string& log_file);

  /// The one that listens on the Unix socket at `path`; nullopt if nobody does. Returns
  /// PERMISSION_DENIED if it runs as another user than this process's or root.
  static absl::StatusOr<std::optional<Process>> ListeningOn(const std::string& path);

  pid_t pid() const { return pid_; }

  /// Readable once the process has ended.
  int fd() const { return fd_.get(); }

  /// Path of the file that it runs; empty where that cannot be told.
  std::string Executable() const;

  /// Waits until it has ended, at most for `timeout`; false when it goes on. A child is then
  /// reaped.
  bool WaitForEnd(std::chrono::milliseconds timeout);

  /// How it ended, in words: "exit status 1", "signal 9". "unknown" for a process that is no child,
  /// and before WaitForEnd().
  const std::string& end() const { return end_; }

  /// Nothing happens where it has ended.
  void Signal(int signal) const;

 private:
  Process(pid_t pid, base::UniqueFd fd) : pid_(pid), fd_(std::move(fd)) {}

  pid_t pid_;
  base::UniqueFd fd_;
  std::string end_ = "unknown";
};

}  // namespace sma::embedded
