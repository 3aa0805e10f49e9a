// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <functional>
#include <thread>
#include <utility>

#include "base/context.h"
#include "base/mutex.h"

namespace sma::volume {

/// Releases the connections of volumes whose storage node is down, in a separate thread, while the
/// owner waits for a device to release the volumes: first based on the known states of the paths,
/// then every second after querying the target.
class DetachGuard {
 public:
  /// Releases the connections that are down. If `only_known` is set, uses the known states of the
  /// paths instead of querying the target.
  using Release = std::function<void(const base::Context& context, bool only_known)>;

  explicit DetachGuard(Release release)
      : release_(std::move(release)), thread_([this] { Run(); }) {}
  ~DetachGuard() {
    {
      base::MutexLock lock(mutex_);
      done_ = true;
      changed_.NotifyAll();
    }
    thread_.join();
  }
  DetachGuard(const DetachGuard&) = delete;
  DetachGuard& operator=(const DetachGuard&) = delete;

 private:
  static constexpr std::chrono::seconds kPeriod{1};

  bool IsDoneBy(base::TimePoint until) {
    base::MutexLock lock(mutex_);
    while (!done_ && std::chrono::steady_clock::now() < until) changed_.WaitUntil(mutex_, until);
    return done_;
  }
  void Run() {
    release_(context_, /*only_known=*/true);
    while (!IsDoneBy(std::chrono::steady_clock::now() + kPeriod)) {
      release_(context_, /*only_known=*/false);
    }
  }

  const Release release_;
  const base::Context context_ = base::Context::Background();
  base::Mutex mutex_;
  base::CondVar changed_;
  bool done_ SMA_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // declared last, because it uses the members above
};

}  // namespace sma::volume
