// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace sma::storage_target::virtio {

/// Interrupts system calls that were expected not to block but do block, because another process
/// changed the file description. A thread marks the beginning and end of such a call, which costs
/// two atomic operations. One thread checks the calls of all threads every kTick and interrupts
/// those whose call has lasted from one check to the next (SIGURG, with an empty handler); it
/// sleeps after a second without calls. Lives as long as the program.
class BlockedWriteWatch {
 public:
  static constexpr std::chrono::milliseconds kTick{20};

  /// The calls of one thread. Created by ForThisThread.
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
    uint64_t seen_ = 0;               // used only by the watch
  };

  /// Returns the calls of the current thread, valid until the thread ends.
  static Calls& ForThisThread();

 private:
  BlockedWriteWatch();
  static BlockedWriteWatch& Instance();
  struct Registration;

  void Run();
  bool InterruptBlocked();
  void Wake();

  std::atomic<uint32_t> resting_{0};
  base::Mutex mutex_;
  std::vector<std::unique_ptr<Calls>> calls_ SMA_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace sma::storage_target::virtio
