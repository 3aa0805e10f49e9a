#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "base/context.h"
#include "base/mutex.h"
#include "jsonrpc/call_scope.h"

namespace sma::python {

/// Threads that run the calls of plugins, so that a call can be given up while its plugin hangs.
/// Lives as long as the program. Thread-safe.
class Workers {
 public:
  /// Calls of one plugin that were given up and are still going on.
  struct GivenUp {
    int count = 0;  // guarded by the workers' lock
  };

  /// Runs `work` in a thread and waits for it as long as `context` allows. OK: `work` has returned.
  /// CANCELLED, DEADLINE_EXCEEDED: `context` ended first; `work` was not begun, or goes on without
  /// being waited for and is marked by jsonrpc::WithFateUnknown. UNAVAILABLE: too many calls of
  /// the plugin were given up and have not returned.
  absl::Status Run(const base::Context& context, const std::shared_ptr<GivenUp>& given_up,
                   std::function<void()> work);

 private:
  struct Task {
    std::function<void()> work;
    jsonrpc::CallObjects objects;  // that it is about
    std::shared_ptr<GivenUp> given_up_calls;
    bool begun = false;
    bool done = false;
    bool given_up = false;
    base::CondVar changed;
  };

  absl::Status Wait(const base::Context& context, Task& task) SMA_REQUIRES(mutex_);
  void StartThreadIfNeeded() SMA_REQUIRES(mutex_);
  void RunTasks();

  base::Mutex mutex_;
  base::CondVar queued_;
  std::deque<std::shared_ptr<Task>> queue_ SMA_GUARDED_BY(mutex_);
  int threads_ SMA_GUARDED_BY(mutex_) = 0;
  int idle_ SMA_GUARDED_BY(mutex_) = 0;
  int given_up_ SMA_GUARDED_BY(mutex_) = 0;  // of all plugins
};

}  // namespace sma::python
