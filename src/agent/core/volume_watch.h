// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/core/core.h"
#include "agent/volume/bdev_watch.h"
#include "agent/volume/portal_checks.h"
#include "base/context.h"
#include "base/mutex.h"
#include "base/uuid.h"

namespace sma::core {

/// Detects within about a second that a volume's bdev has disappeared or reappeared, long before
/// the next comparison, and has its device restored; releases connections that were kept for
/// others. A thread polls the target every watch period while calls are served and volumes are
/// attached.
class VolumeWatch {
 public:
  explicit VolumeWatch(Core& core)
      : core_(core),
        bdevs_(core.target, core.volumes.get()),
        portals_(core.options.portal_check_period) {}
  ~VolumeWatch();

  void Start();
  /// Cancels the thread's work and waits for it to end. Idempotent.
  void Stop();

  /// Called from any thread; does not block.
  void SetServing(bool serving);

  /// To be called when the connections of these volumes have been restored: has their devices
  /// restored at once. Called from any thread; does not block.
  void OnConnected(const std::vector<base::Uuid>& volumes);

 private:
  void Run();
  void PollBdevs();
  void RefreshPaths();
  /// Has the devices of these volumes compared with the target.
  void Restore(const std::set<base::Uuid>& volumes);

  Core& core_;
  const base::Context context_ = base::Context::Background();
  base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  bool serving_ SMA_GUARDED_BY(mutex_) = false;
  // Used only by thread_.
  volume::BdevWatch bdevs_;
  volume::PortalChecks portals_;
  uint64_t revision_ = 0;     // of the record, at the last SetVolumes
  std::string logged_error_;  // the last error that was logged
  bool has_remote_ = false;
  base::TimePoint next_paths_{};
  std::thread thread_;
};

}  // namespace sma::core
