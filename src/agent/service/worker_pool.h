#pragma once

#include <pthread.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/mutex.h"

namespace sma::service {

/// Threads for work that blocks. There are only as many as are busy at once, at most `max_threads`;
/// one that has had nothing to do for `idle_time` ends, and the allocator's free memory goes back
/// to the system. All members are thread-safe.
class WorkerPool {
 public:
  struct Options {
    uint32_t max_threads = 128;
    uint32_t max_of_lane = 32;    // threads at work for one lane at once
    uint32_t max_in_lanes = 96;   // for all lanes together
    uint32_t max_waiting = 4096;  // pieces of work that no thread has begun
    size_t stack_bytes = 256 * 1024;
    std::chrono::milliseconds idle_time{10'000};
  };

  explicit WorkerPool(const Options& options) : options_(options) {}

  /// Runs what was submitted, then returns. Nothing may be submitted any more.
  ~WorkerPool();

  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Runs `work` in one of the threads, in the order of submission where there are more pieces than
  /// threads. `lane`: whom the work may have to wait for; a part of the threads only does work of
  /// one lane, or of all, so that those of others, and those without one, go on. False, and it will
  /// never run, where too much waits already or no thread can be had.
  [[nodiscard]] bool Submit(std::function<void()> work, const std::string& lane = {})
      SMA_EXCLUDES(mutex_);

  /// Threads at present.
  uint32_t thread_count() SMA_EXCLUDES(mutex_);

 private:
  struct Lane {
    uint32_t running = 0;
    std::deque<std::function<void()>> held;  // what has to wait for its lane
  };

  static void* ThreadMain(void* pool);
  bool LaneIsFull(const Lane& lane) const SMA_REQUIRES(mutex_);
  bool Enqueue(std::function<void()> work) SMA_REQUIRES(mutex_);
  void RunInLane(const std::string& lane, std::function<void()> work) SMA_EXCLUDES(mutex_);
  bool ReleaseHeld() SMA_REQUIRES(mutex_);
  void Run() SMA_EXCLUDES(mutex_);
  bool StartThread() SMA_REQUIRES(mutex_);
  void JoinEnded() SMA_REQUIRES(mutex_);
  void GiveMemoryBack() SMA_REQUIRES(mutex_);

  const Options options_;
  base::Mutex mutex_;
  base::CondVar work_or_stop_;
  base::CondVar thread_ended_;
  std::deque<std::function<void()>> waiting_ SMA_GUARDED_BY(mutex_);
  std::map<std::string, Lane> lanes_ SMA_GUARDED_BY(mutex_);  // those with work
  uint32_t running_in_lanes_ SMA_GUARDED_BY(mutex_) = 0;
  size_t held_count_ SMA_GUARDED_BY(mutex_) = 0;
  uint32_t threads_ SMA_GUARDED_BY(mutex_) = 0;
  std::vector<pthread_t> ended_ SMA_GUARDED_BY(mutex_);  // to be joined
  uint32_t idle_threads_ SMA_GUARDED_BY(mutex_) = 0;
  std::chrono::steady_clock::time_point memory_given_back_ SMA_GUARDED_BY(mutex_);
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
};

}  // namespace sma::service
