// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <pthread.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/api/agent_api.h"
#include "base/mutex.h"

namespace sma::service {

/// Threads for work that blocks. The pool has as many threads as are busy at the same time, at most
/// `max_threads`; a thread that has been idle for `idle_time` ends, and the allocator's free memory
/// is returned to the system. Thread-safe.
class WorkerPool {
 public:
  struct Options {
    uint32_t max_threads = 128;
    uint32_t max_of_lane = 32;    // threads that run work of one lane at the same time
    uint32_t max_of_kind = 96;    // the same for all local lanes together, and for all others
    uint32_t max_in_lanes = 120;  // the same for all lanes together
    uint32_t lane_share = 8;      // a lane may have 1/n of the threads that are left for its kind
    uint32_t max_waiting = 4096;  // work items that no thread has started
    size_t stack_bytes = 256 * 1024;
    std::chrono::milliseconds idle_time{10'000};
  };

  explicit WorkerPool(const Options& options) : options_(options) {}

  /// Returns when all submitted work has run. No work may be submitted meanwhile.
  ~WorkerPool();

  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Runs `work` in one of the threads, in the order of submission if there are more work items
  /// than threads. `lane` is the peer or object that the work may wait for, if it has a name: the
  /// numbers of threads that run work of one lane, of one kind of lanes (local or not), and of all
  /// lanes together, are limited, so that work of other lanes, of the other kind, and work without
  /// a lane can proceed. The more threads lanes use, the fewer each may have, at least one. Returns
  /// false if too much work is waiting or no thread can be started; `work` then never runs.
  [[nodiscard]] bool Submit(std::function<void()> work, const api::Neighbour& lane = {})
      SMA_EXCLUDES(mutex_);

  /// Returns the current number of threads.
  uint32_t thread_count() SMA_EXCLUDES(mutex_);

 private:
  struct Lane {
    const bool is_local;
    uint32_t running = 0;
    std::deque<std::function<void()>> held;  // waits for room in its lane
  };

  using LaneId = std::pair<bool, std::string>;  // is it local, name

  static void* ThreadMain(void* pool);
  uint32_t LeftFor(bool is_local) const SMA_REQUIRES(mutex_);
  bool LaneIsFull(const Lane& lane) const SMA_REQUIRES(mutex_);
  bool EnqueueInLane(Lane& lane, std::function<void()>& work) SMA_REQUIRES(mutex_);
  bool Enqueue(std::function<void()> work) SMA_REQUIRES(mutex_);
  void RunInLane(const LaneId& id, std::function<void()> work) SMA_EXCLUDES(mutex_);
  bool ReleaseHeld() SMA_REQUIRES(mutex_);
  void Run() SMA_EXCLUDES(mutex_);
  bool StartThread() SMA_REQUIRES(mutex_);
  void JoinEnded() SMA_REQUIRES(mutex_);
  void ReturnMemory() SMA_REQUIRES(mutex_);

  const Options options_;
  base::Mutex mutex_;
  base::CondVar work_or_stop_;
  base::CondVar thread_ended_;
  std::deque<std::function<void()>> waiting_ SMA_GUARDED_BY(mutex_);
  std::map<LaneId, Lane> lanes_ SMA_GUARDED_BY(mutex_);  // lanes that have work
  uint32_t running_in_local_lanes_ SMA_GUARDED_BY(mutex_) = 0;
  uint32_t running_in_other_lanes_ SMA_GUARDED_BY(mutex_) = 0;
  size_t held_count_ SMA_GUARDED_BY(mutex_) = 0;
  uint32_t threads_ SMA_GUARDED_BY(mutex_) = 0;
  std::vector<pthread_t> ended_ SMA_GUARDED_BY(mutex_);  // to be joined
  uint32_t idle_threads_ SMA_GUARDED_BY(mutex_) = 0;
  std::chrono::steady_clock::time_point memory_returned_ SMA_GUARDED_BY(mutex_);
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
};

}  // namespace sma::service
