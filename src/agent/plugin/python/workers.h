// SPDX-License-Identifier: Apache-2.0

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

/// Threads that execute the calls of plugins, so that a call can be abandoned if its plugin hangs.
/// Exists until the program ends. Thread-safe.
class Workers {
 public:
  /// The number of one plugin's calls that were abandoned and have not returned.
  struct GivenUp {
    int count = 0;  // guarded by the workers' lock
  };

  /// Runs `work` in a thread and waits as long as `context` allows. Returns OK once `work` has
  /// returned. Returns CANCELLED or DEADLINE_EXCEEDED if `context` ended first; then either `work`
  /// was not started, or it continues to run and the status is marked by jsonrpc::WithFateUnknown.
  /// Returns UNAVAILABLE if too many of the plugin's calls were abandoned and have not returned.
  absl::Status Run(const base::Context& context, const std::shared_ptr<GivenUp>& given_up,
                   std::function<void()> work);

 private:
  struct Task {
    std::function<void()> work;
    jsonrpc::CallObjects objects;  // of the call
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
