#pragma once

#include <pthread.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
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
  /// threads. False, and it will never run, where too much waits already or no thread can be had.
  [[nodiscard]] bool Submit(std::function<void()> work) SMA_EXCLUDES(mutex_);

  /// Threads at present.
  uint32_t thread_count() SMA_EXCLUDES(mutex_);

 private:
  static void* ThreadMain(void* pool);
  void Run() SMA_EXCLUDES(mutex_);
  bool StartThread() SMA_REQUIRES(mutex_);
  void JoinEnded() SMA_REQUIRES(mutex_);
  void GiveMemoryBack() SMA_REQUIRES(mutex_);

  const Options options_;
  base::Mutex mutex_;
  base::CondVar work_or_stop_;
  base::CondVar thread_ended_;
  std::deque<std::function<void()>> waiting_ SMA_GUARDED_BY(mutex_);
  uint32_t threads_ SMA_GUARDED_BY(mutex_) = 0;
  std::vector<pthread_t> ended_ SMA_GUARDED_BY(mutex_);  // to be joined
  uint32_t idle_threads_ SMA_GUARDED_BY(mutex_) = 0;
  std::chrono::steady_clock::time_point memory_given_back_ SMA_GUARDED_BY(mutex_);
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
};

}  // namespace sma::service
