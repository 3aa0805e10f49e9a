// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sma::embedded {

/// Another process, identified by a descriptor that never refers to a later process with the same
/// PID (pidfd_open(2)). Movable. Not thread-safe.
class Process {
 public:
  /// Starts `argv[0]` (a path) in a new session, with default signal dispositions and no blocked
  /// signals, standard input from /dev/null, and standard output and error appended to `log_file`,
  /// or to this process's standard error if it is empty. The new process inherits no other
  /// descriptors and does not end with this process. Returns an error if it cannot be started.
  static absl::StatusOr<Process> Spawn(const std::vector<std::string>& argv,
                                       const std::string& log_file);

  /// Returns the process that listens on the Unix socket at `path`; nullopt if there is none.
  /// Returns PERMISSION_DENIED if it runs as a user other than root or this process's user.
  static absl::StatusOr<std::optional<Process>> ListeningOn(const std::string& path);

  pid_t pid() const { return pid_; }

  /// Returns a descriptor that becomes readable when the process has ended.
  int fd() const { return fd_.get(); }

  /// Returns the path of the executable; empty if unknown.
  std::string Executable() const;

  /// Waits at most `timeout` for the process to end and reaps a child. Returns false if it is still
  /// running.
  bool WaitForEnd(std::chrono::milliseconds timeout);

  /// Returns how the process ended: "exit status 1", "signal 9"; "unknown" if it is not a child,
  /// and before WaitForEnd().
  const std::string& end() const { return end_; }

  /// Sends `signal` to the process. Does nothing if it has ended.
  void Signal(int signal) const;

 private:
  Process(pid_t pid, base::UniqueFd fd) : pid_(pid), fd_(std::move(fd)) {}

  pid_t pid_;
  base::UniqueFd fd_;
  std::string end_ = "unknown";
};

}  // namespace sma::embedded
