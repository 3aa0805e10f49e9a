// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/embedded/process.h"
#include "base/context.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace sma::embedded {

struct EmbeddedTargetOptions {
  std::string binary;                  // path of the executable
  std::string socket;                  // path of the target's JSON-RPC socket; passed as -r
  std::vector<std::string> arguments;  // further arguments
  std::string log_file;                // empty: standard error of this process
  bool stop_at_end = false;
  std::chrono::milliseconds first_pause{100};
  std::chrono::milliseconds longest_pause{10'000};
};

/// Returns the path of `sma-target` in the folder of this process's executable.
std::string DefaultBinary();

/// Keeps a storage target running on a socket: adopts a target that is already listening there,
/// otherwise starts one. Restarts it when it ends: immediately if it ran for longer than
/// `longest_pause`, otherwise after a pause that doubles each time. The target is a separate
/// process that keeps running when this one ends.
class EmbeddedTarget {
 public:
  /// Adopts or starts the target and begins to supervise it. Returns an error if it could not be
  /// started; after OK it may not answer yet. Returns PERMISSION_DENIED if the process that listens
  /// on the socket runs as a user other than root or this process's user: it is neither adopted nor
  /// replaced.
  static absl::StatusOr<std::unique_ptr<EmbeddedTarget>> Start(EmbeddedTargetOptions options);

  /// Ends the supervision. With `stop_at_end` also stops the target: SIGTERM, then SIGKILL after 10
  /// s. An adopted target whose executable is not `binary` is left running. Blocks.
  ~EmbeddedTarget();

  EmbeddedTarget(const EmbeddedTarget&) = delete;
  EmbeddedTarget& operator=(const EmbeddedTarget&) = delete;

  /// Blocks until a process listens on the socket. Returns the context's status if it ends first;
  /// FAILED_PRECONDITION if the target ended; PERMISSION_DENIED in the same case as Start().
  /// Thread-safe.
  absl::Status WaitUntilListening(const base::Context& context) SMA_EXCLUDES(mutex_);

  /// Returns the PID of the running target, or of the last one if none is running. Thread-safe.
  pid_t pid() const { return pid_; }
  /// Returns the number of restarts. Thread-safe.
  uint32_t restarts() const { return restarts_; }
  /// Returns true if the first target was already running and was adopted.
  bool adopted() const { return adopted_; }

 private:
  struct Found {
    Process process;
    bool adopted;
  };
  static absl::StatusOr<Found> AdoptOrStart(const EmbeddedTargetOptions& options);
  EmbeddedTarget(EmbeddedTargetOptions options, Found found);

  void Supervise();
  bool Restart();
  std::chrono::milliseconds NextPause();
  bool StopWithin(std::chrono::milliseconds time, int other_fd);
  void EndTarget();

  const EmbeddedTargetOptions options_;
  const bool adopted_;
  std::atomic<pid_t> pid_;
  std::atomic<uint32_t> restarts_ = 0;
  base::UniqueFd stop_event_;  // eventfd(2)
  base::Mutex mutex_;
  std::string last_end_ SMA_GUARDED_BY(mutex_);  // how the target ended; empty while it runs

  // Owned by the supervising thread, then by the destructor.
  Process process_;
  bool is_ours_;
  base::TimePoint began_ = std::chrono::steady_clock::now();
  std::chrono::milliseconds pause_{0};
  std::thread thread_;
};

}  // namespace sma::embedded
