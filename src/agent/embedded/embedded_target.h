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
  std::string binary;                  // path
  std::string socket;                  // of its JSON-RPC server; given to it as -r
  std::vector<std::string> arguments;  // the rest
  std::string log_file;                // empty: this process's standard error
  bool stop_at_end = false;
  std::chrono::milliseconds first_pause{100};
  std::chrono::milliseconds longest_pause{10'000};
};

/// `sma-target` beside the file that this process runs.
std::string DefaultBinary();

/// Keeps a storage target running on a socket: adopts one that listens there already, else starts
/// it; starts it again when it ends, at once if it ran for longer than `longest_pause`, else after
/// a pause that doubles. The target is a process of its own and outlives this one.
class EmbeddedTarget {
 public:
  /// Adopts or starts the target and begins to supervise it. The status says why it could not be
  /// started; it need not answer yet. Returns PERMISSION_DENIED if a process of another user than
  /// this process's or root listens on the socket: it is neither adopted nor replaced.
  static absl::StatusOr<std::unique_ptr<EmbeddedTarget>> Start(EmbeddedTargetOptions options);

  /// Ends the supervision. With `stop_at_end` ends the target, too: SIGTERM, and SIGKILL after 10
  /// s. A target that was adopted and runs another program than `binary` is somebody else's and
  /// goes on. Blocks.
  ~EmbeddedTarget();

  EmbeddedTarget(const EmbeddedTarget&) = delete;
  EmbeddedTarget& operator=(const EmbeddedTarget&) = delete;

  /// Blocks until somebody listens on the socket. The context's status when it ends before;
  /// FAILED_PRECONDITION where the target ended instead; PERMISSION_DENIED as for Start().
  /// Thread-safe.
  absl::Status WaitUntilListening(const base::Context& context) SMA_EXCLUDES(mutex_);

  /// Of the target that runs now, or ran last. Thread-safe.
  pid_t pid() const { return pid_; }
  /// How often it was started, after the first time. Thread-safe.
  uint32_t restarts() const { return restarts_; }
  /// Whether the first one was running already.
  bool adopted() const { return adopted_; }

 private:
  struct Found {
    Process process;
    bool adopted;
  };
  static absl::StatusOr<Found> AdoptOrStart(const EmbeddedTargetOptions& options);
  EmbeddedTarget(EmbeddedTargetOptions options, Found found);

  void Supervise();
  bool StartAgain();
  std::chrono::milliseconds NextPause();
  bool StopWithin(std::chrono::milliseconds time, int other_fd);
  void EndTarget();

  const EmbeddedTargetOptions options_;
  const bool adopted_;
  std::atomic<pid_t> pid_;
  std::atomic<uint32_t> restarts_ = 0;
  base::UniqueFd stop_event_;  // eventfd(2)
  base::Mutex mutex_;
  std::string last_end_ SMA_GUARDED_BY(mutex_);  // how the target ended; empty while one runs

  // The supervising thread's, and the destructor's after it.
  Process process_;
  bool is_ours_;
  base::TimePoint began_ = std::chrono::steady_clock::now();
  std::chrono::milliseconds pause_{0};
  std::thread thread_;
};

}  // namespace sma::embedded
