#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "agent/core/path_facts.h"
#include "agent/device/registry.h"
#include "agent/record/record.h"
#include "agent/volume/gone_volumes.h"
#include "agent/volume/volumes.h"
#include "base/lock_table.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"
#include "sma/outcome.h"
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
  std::chrono::nanoseconds incomplete_hold = std::chrono::milliseconds(500);
  /// How often the target is asked whether it still answers; 0: once after each connect.
  std::chrono::nanoseconds health_period = std::chrono::seconds(1);
  /// A target that has not answered for longer counts as hung.
  std::chrono::nanoseconds max_silence = std::chrono::seconds(3);
  /// Serving does not wait for longer after a connect for a device type that is slow.
  std::chrono::nanoseconds max_start_wait = std::chrono::seconds(2);
  /// How long after its connection was lost the target may still act on a call.
  std::chrono::nanoseconds late_action_time = std::chrono::seconds(2);
  /// The pause after a comparison that left something to do doubles from this to a maximum. A call
  /// that waits for what one before it left looks four times as often.
  std::chrono::nanoseconds min_retry_pause = std::chrono::milliseconds(100);
  /// How long the limits of a volume that is not attached are kept, and of how many volumes.
  std::chrono::nanoseconds keep_limits = std::chrono::hours(24);
  size_t max_kept_limits = 1000;
  /// How many devices are restored side by side.
  int restore_parallelism = 16;

  // For GetStatus.
  std::string version;
  std::string target_socket;
  bool embedded_target = false;
  // For ListPlugins: all device types and crypto engines.
  std::vector<admin::v1::Plugin> plugins;
};

/// Objects that have something to be looked at again: volumes, and devices by their LimitsKeyOf.
/// Thread-safe.
template <typename Name>
class Marks {
 public:
  void Add(const Name& name) {
    base::MutexLock lock(mutex_);
    names_.insert(name);
  }
  bool Contains(const Name& name) const {
    base::MutexLock lock(mutex_);
    return names_.contains(name);
  }
  void Remove(const Name& name) {
    base::MutexLock lock(mutex_);
    names_.erase(name);
  }

 private:
  mutable base::Mutex mutex_;
  std::set<Name> names_ SMA_GUARDED_BY(mutex_);
};

/// What the parts of the core share.
struct Core {
  Options options;
  jsonrpc::Caller& target;
  std::unique_ptr<record::Record> record;
  device::Registry registry;
  LockTable locks;
  /// Volumes that may have other limits on the target than in the record.
  Marks<base::Uuid> unset_limits;
  std::unique_ptr<volume::Volumes> volumes;
  std::unique_ptr<volume::GoneVolumes> gone_volumes;
  std::unique_ptr<PathFacts> paths = std::make_unique<PathFacts>();
  /// Tells watchers of a volume of which something but its row has changed.
  std::function<void(const base::Uuid& volume)> tell_volume;
  /// Has the background look soon at a device of which a call could not finish something.
  std::function<void(const std::string& handle)> wake_background;
  /// UNAVAILABLE: the target hangs, so that calls to it need not be tried.
  std::function<absl::Status()> target_status;
  /// Rows that are older are of an agent before this one.
  record::Time opened = std::chrono::system_clock::now();
};

/// What a device manager needs to know of rows of the record.
DeviceSpec SpecOf(const record::Device& row);
DeviceVolume VolumeOf(const record::Volume& row);
/// A volume that the record does not have.
DeviceVolume UnknownVolume(const base::Uuid& id);
std::vector<DeviceVolume> VolumesOf(const std::vector<record::Volume>& rows);

/// Stands for a whole device among the volumes whose limits the record keeps.
base::Uuid LimitsKeyOf(std::string_view device_handle);

/// The manager of a device in the record. FAILED_PRECONDITION: its type is not enabled any more.
absl::StatusOr<DeviceManager*> ManagerOf(const Core& core, const record::Device& row);

/// NOT_FOUND: the record does not have the device.
absl::Status NoDevice(const std::string& handle);

/// A row for a device that `manager` has described.
record::Device NewDeviceRow(const DeviceManager& manager, const DeviceSpec& device,
                            record::DeviceState state);

/// Why a volume cannot be attached that is in the record for another device. ALREADY_EXISTS.
/// UNAVAILABLE: it is being taken off that one.
absl::Status IsElsewhere(const record::Volume& row);

/// Has `change` remove a row, with what else the record and the memory have of the object.
void AddRemoval(const Core& core, const record::Device& row, record::Change& change);
void AddRemoval(const Core& core, const record::Volume& row, record::Change& change);

/// Has `change` keep the limits of a volume that is attached now.
void AddLimits(const Core& core, const record::Volume& row, record::Change& change);

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
