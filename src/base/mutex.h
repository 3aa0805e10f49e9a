// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

// Clang's thread-safety attributes (clang documentation, "Thread Safety Analysis"); empty for other
// compilers.
#if defined(__clang__)
#define SMA_ATTRIBUTE(x) __attribute__((x))
#else
#define SMA_ATTRIBUTE(x)
#endif

#define SMA_CAPABILITY(x) SMA_ATTRIBUTE(capability(x))
#define SMA_SCOPED_CAPABILITY SMA_ATTRIBUTE(scoped_lockable)
#define SMA_GUARDED_BY(x) SMA_ATTRIBUTE(guarded_by(x))
#define SMA_PT_GUARDED_BY(x) SMA_ATTRIBUTE(pt_guarded_by(x))
#define SMA_REQUIRES(...) SMA_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define SMA_ACQUIRE(...) SMA_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define SMA_RELEASE(...) SMA_ATTRIBUTE(release_capability(__VA_ARGS__))
#define SMA_TRY_ACQUIRE(...) SMA_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
#define SMA_EXCLUDES(...) SMA_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define SMA_NO_THREAD_SAFETY_ANALYSIS SMA_ATTRIBUTE(no_thread_safety_analysis)

namespace sma::base {

/// A std::mutex with the annotations of clang's thread-safety analysis. Unlike a lock from an
/// uninstrumented library, it is visible to the sanitizers.
class SMA_CAPABILITY("mutex") Mutex {
 public:
  void Lock() SMA_ACQUIRE() { mutex_.lock(); }
  void Unlock() SMA_RELEASE() { mutex_.unlock(); }
  bool TryLock() SMA_TRY_ACQUIRE(true) { return mutex_.try_lock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

/// Locks a Mutex for the lifetime of this object.
class SMA_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) SMA_ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() SMA_RELEASE() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

/// A condition variable for Mutex. A wait can return spuriously: check the condition in a loop.
class CondVar {
 public:
  void Wait(Mutex& mutex) SMA_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    cond_.wait(lock);
    lock.release();
  }

  /// Returns false if `when` (monotonic clock) has passed; TimePoint::max() waits without limit.
  bool WaitUntil(Mutex& mutex, std::chrono::steady_clock::time_point when) SMA_REQUIRES(mutex) {
    if (when == std::chrono::steady_clock::time_point::max()) {
      Wait(mutex);
      return true;
    }
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    bool in_time = cond_.wait_until(lock, when) == std::cv_status::no_timeout;
    lock.release();
    return in_time;
  }

  void NotifyOne() { cond_.notify_one(); }
  void NotifyAll() { cond_.notify_all(); }

 private:
  std::condition_variable cond_;
};

}  // namespace sma::base
