// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <atomic>
#include <chrono>

#include "base/unique_fd.h"

namespace sma::storage_target::virtio {

/// Makes an eventfd that another process sent usable by an I/O reactor, whose writes must not
/// block. Returns false if `fd` is not an eventfd (for example a file whose owner can block writes
/// forever).
bool PrepareEventFd(int fd);

/// Adds 1 to an eventfd that PrepareEventFd accepted; does nothing if `fd` is invalid. Returns
/// false if the write blocked and was interrupted after some tens of milliseconds: the other
/// process shares the file description, so it can clear O_NONBLOCK and fill the counter at any
/// time, which no check before the write can prevent. In that case, the caller must not use the
/// eventfd again. May be called from any thread; its system calls are interrupted by SIGURG only
/// while it blocks here. Allocates only at the first call in a thread.
[[nodiscard]] bool NotifyEventFd(const base::UniqueFd& fd);

/// Notifies one peer, which may have many eventfds and may replace them at any time. A write that
/// blocks holds up the whole reactor, so after the first one the peer receives no more
/// notifications. Thread-safe.
class PeerNotifier {
 public:
  /// For how long a peer whose eventfd blocked a write must not connect again. A peer that blocks
  /// one write in each connection then holds up its reactor for 2 % of the time at most.
  static constexpr std::chrono::seconds kPenalty{2};

  /// Like NotifyEventFd, but returns false without a write if an earlier write has blocked.
  [[nodiscard]] bool Notify(const base::UniqueFd& fd);
  /// Returns true if a write has blocked since the construction or the last Reset.
  bool blocked() const { return blocked_.load(std::memory_order_relaxed); }
  /// Allows notifications again.
  void Reset() { blocked_.store(false, std::memory_order_relaxed); }

 private:
  std::atomic<bool> blocked_{false};
};

}  // namespace sma::storage_target::virtio
