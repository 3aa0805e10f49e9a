#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace sma::target::virtio {

/// Ends system calls that were not to wait and do, because of what another process did to the
/// descriptor. A thread says when it begins and ends such a call, which costs two atomic
/// operations; one thread for all looks at them every kTick, interrupts whose call has lasted from
/// one look to the next (SIGURG, with a handler that does nothing), and rests when there were no
/// calls for a second. For the life of the program.
class BlockedWriteWatch {
 public:
  static constexpr std::chrono::milliseconds kTick{20};

  /// A thread's calls. Made by ForThisThread.
  class Calls {
   public:
    void Begin() {
      count_.fetch_add(1, std::memory_order_seq_cst);
      if (watch_.resting_.load(std::memory_order_seq_cst) != 0) watch_.Wake();
    }
    void End() {
      count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }

   private:
    friend class BlockedWriteWatch;
    Calls(BlockedWriteWatch& watch, pid_t tid) : watch_(watch), tid_(tid) {}

    BlockedWriteWatch& watch_;
    const pid_t tid_;
    std::atomic<uint64_t> count_{0};  // odd: in a call
    uint64_t seen_ = 0;               // the watch's
  };

  /// Of the calling thread, for as long as it runs.
  static Calls& ForThisThread();

 private:
  BlockedWriteWatch();
  static BlockedWriteWatch& Instance();
  struct Registration;

  void Run();
  bool Look();
  void Wake();

  std::atomic<uint32_t> resting_{0};
  base::Mutex mutex_;
  std::vector<std::unique_ptr<Calls>> calls_ SMA_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace sma::target::virtio
