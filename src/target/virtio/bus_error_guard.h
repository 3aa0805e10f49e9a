#pragma once

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace sma::target::virtio {

/// Keeps the program alive when memory that another process shares with it turns out to have
/// nothing behind it: whoever shares a file can cut it short at any time, and an access beyond its
/// end then raises SIGBUS. The whole mapping is replaced by zeroes private to this process, and its
/// guard tells.
class BusErrorGuard {
 public:
  static constexpr size_t kMaxGuards = 16384;

  /// Guards `size_bytes` at `address`, the whole of one mapping. Any thread. The first one installs
  /// the signal's handler.
  BusErrorGuard(void* address, size_t size_bytes);
  /// To be destroyed before the mapping goes.
  ~BusErrorGuard();
  BusErrorGuard(const BusErrorGuard&) = delete;
  BusErrorGuard& operator=(const BusErrorGuard&) = delete;

  /// False when there are kMaxGuards already: the memory must not be touched.
  bool armed() const { return slot_ < kMaxGuards; }
  /// True once the mapping was replaced. Any thread.
  bool broken() const;

  /// Grows with each mapping that is replaced: who has seen this value needs to ask no guard again
  /// until it changes. Any thread.
  static uint32_t broken_count() { return broken_count_.load(std::memory_order_relaxed); }

 private:
  static void OnSignal(int signal, siginfo_t* info, void* context);

  static inline std::atomic<uint32_t> broken_count_{0};
  size_t slot_ = kMaxGuards;
};

}  // namespace sma::target::virtio
