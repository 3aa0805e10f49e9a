#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "agent/device/registry.h"
#include "agent/record/record.h"
#include "agent/volume/gone_volumes.h"
#include "agent/volume/volumes.h"
#include "base/lock_table.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"
#include "sma_admin.pb.h"

namespace sma::core {

using base::LockTable;
using volume::CheckVolumeId;
using volume::VolumeRequest;

struct Options {
  /// DeleteDevice of a device with volumes: refused, or they are detached first.
  bool refuse_delete_with_volumes = false;
  /// What is missing on the target though the target was not restarted is made again, or only told.
  bool repair_drift = true;
  /// How often the record is compared with the target; 0: only after each connect.
  std::chrono::nanoseconds drift_period = std::chrono::seconds(30);
  /// How often the target is asked which bdevs have gone and come; 0: never.
  std::chrono::nanoseconds watch_period = std::chrono::seconds(1);
  /// How volumes are found and connected.
  volume::Options volumes;
  /// A remote volume that is missing for longer is told of; 0: none ever is.
  std::chrono::nanoseconds volume_cleanup_period = std::chrono::seconds(60);
  /// And is detached.
  bool detach_gone_volumes = false;
  /// How long a call may take whose client has set no deadline.
  std::chrono::nanoseconds default_timeout = std::chrono::seconds(60);
  /// How long after a connect hosts are kept out of devices of which volumes are missing.
  std::chrono::nanoseconds incomplete_hold = std::chrono::seconds(3);
  /// How long after a call with an unknown outcome the target may still act on it.
  std::chrono::nanoseconds late_action_time = std::chrono::seconds(2);
  /// How many devices are restored side by side.
  int restore_parallelism = 16;

  // For GetStatus.
  std::string version;
  std::string target_socket;
  bool embedded_target = false;
  // For ListPlugins: all device types and crypto engines.
  std::vector<admin::v1::Plugin> plugins;
};

/// Volumes that may have other limits on the target than in the record. Thread-safe.
class UnsetLimits {
 public:
  void Add(const base::Uuid& volume_id) {
    base::MutexLock lock(mutex_);
    volumes_.insert(volume_id);
  }
  /// Whether the volume is one of them; it no longer is.
  bool Take(const base::Uuid& volume_id) {
    base::MutexLock lock(mutex_);
    return volumes_.erase(volume_id) > 0;
  }

 private:
  base::Mutex mutex_;
  std::set<base::Uuid> volumes_ SMA_GUARDED_BY(mutex_);
};

/// What the parts of the core share.
struct Core {
  Options options;
  jsonrpc::Caller& target;
  std::unique_ptr<record::Record> record;
  device::Registry registry;
  LockTable locks;
  UnsetLimits unset_limits;
  std::unique_ptr<volume::Volumes> volumes;
  std::unique_ptr<volume::GoneVolumes> gone_volumes;
  /// Has the background look soon at what a call could not finish.
  std::function<void()> wake_background;
};

/// What a device manager needs to know of rows of the record.
DeviceSpec SpecOf(const record::Device& row);
DeviceVolume VolumeOf(const record::Volume& row);
/// A volume that the record does not have.
DeviceVolume UnknownVolume(const base::Uuid& id);
std::vector<DeviceVolume> VolumesOf(const std::vector<record::Volume>& rows);

/// The manager of a device in the record. FAILED_PRECONDITION: its type is not enabled any more.
absl::StatusOr<DeviceManager*> ManagerOf(const Core& core, const record::Device& row);

/// `error` for a client: with what it is about, and without our own marks.
absl::Status About(std::string_view object, const absl::Status& error);

/// `row` in another state.
template <typename Row, typename State>
Row InState(Row row, State state) {
  row.state = state;
  row.state_since = std::chrono::system_clock::now();
  return row;
}

/// `row` with `error` as its last one; OK clears it.
template <typename Row>
Row WithError(Row row, const absl::Status& error) {
  row.last_error = {};
  if (!error.ok()) {
    row.last_error = {error.code(), std::string(error.message()), std::chrono::system_clock::now()};
  }
  return row;
}

}  // namespace sma::core
