#pragma once

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/core/core.h"
#include "agent/volume/bdev_watch.h"
#include "base/context.h"
#include "base/mutex.h"
#include "base/uuid.h"

namespace sma::core {

/// Has the loss and the return of a volume told and acted upon within a second or so, long before
/// the next comparison of everything: a thread of its own asks the target every watch period which
/// bdevs have gone and come, while calls are served and volumes are attached.
class VolumeWatch {
 public:
  explicit VolumeWatch(Core& core) : core_(core), bdevs_(core.target, core.volumes.get()) {}
  ~VolumeWatch();

  void Start();
  /// Ends the thread; what it was doing is given up. Again: nothing.
  void Stop();

  /// From any thread; does not block.
  void SetServing(bool serving);

  /// The connections of these volumes were restored: their devices are looked at now. From any
  /// thread; does not block.
  void OnConnected(const std::vector<base::Uuid>& volumes);

 private:
  void Run();
  void Look();
  void LookAtPaths();
  /// Compares the devices of these volumes with the target.
  void Restore(const std::set<base::Uuid>& volumes);

  Core& core_;
  const base::Context context_ = base::Context::Background();
  base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  bool serving_ SMA_GUARDED_BY(mutex_) = false;
  std::set<base::Uuid> connected_ SMA_GUARDED_BY(mutex_);  // to be looked at
  // thread_'s own.
  volume::BdevWatch bdevs_;
  uint64_t revision_ = 0;  // of the record, as bdevs_ knows it
  std::string told_;       // the last error that was logged
  bool has_remote_ = false;
  base::TimePoint next_paths_{};
  std::thread thread_;
};

}  // namespace sma::core
