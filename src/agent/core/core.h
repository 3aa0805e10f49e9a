// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
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
  /// If true, DeleteDevice fails while volumes are attached; if false, it detaches them first.
  bool refuse_delete_with_volumes = false;
  /// If true, objects that disappear without a restart of the target are recreated; if false, they
  /// are only reported.
  bool repair_drift = true;
  /// The interval between comparisons of record and target; if 0, they are compared only after each
  /// connect.
  std::chrono::nanoseconds drift_period = std::chrono::seconds(30);
  /// The interval between queries for bdevs that have disappeared or reappeared; if 0, there are no
  /// such queries.
  std::chrono::nanoseconds watch_period = std::chrono::seconds(1);
  /// The interval between checks of each portal of iSCSI volumes.
  std::chrono::nanoseconds portal_check_period = std::chrono::seconds(10);
  /// Options for finding and connecting volumes.
  volume::Options volumes;
  /// A remote volume that is missing for longer than this is reported; if 0, it is never reported.
  std::chrono::nanoseconds volume_cleanup_period = std::chrono::seconds(60);
  /// If true, such a volume is also detached.
  bool detach_gone_volumes = false;
  /// The time limit of a call without a deadline.
  std::chrono::nanoseconds default_timeout = std::chrono::seconds(60);
  /// How long after a connect a device with missing volumes is hidden from hosts.
  std::chrono::nanoseconds incomplete_hold = std::chrono::milliseconds(500);
  /// The interval between checks whether the target answers; if 0, there is one check after each
  /// connect.
  std::chrono::nanoseconds health_period = std::chrono::seconds(1);
  /// A target that has not answered for longer than this is considered hung.
  std::chrono::nanoseconds max_silence = std::chrono::seconds(3);
  /// How long after a connect the agent at most waits for a slow device type before it serves
  /// calls.
  std::chrono::nanoseconds max_start_wait = std::chrono::seconds(2);
  /// How long after its connection was lost the target may still act on a call.
  std::chrono::nanoseconds late_action_time = std::chrono::seconds(2);
  /// How long DetachVolume and DeleteDevice wait for a device to release volumes of storage nodes.
  /// A device waits for I/O in progress to a node; after this time the removal continues in the
  /// background.
  std::chrono::nanoseconds removal_time = std::chrono::milliseconds(3500);
  /// The pause after a failed comparison; doubled with each failure up to a maximum. A call that
  /// waits for an earlier call to finish polls four times as often.
  std::chrono::nanoseconds min_retry_pause = std::chrono::milliseconds(100);
  /// How long limits of detached volumes are kept, and for how many volumes.
  std::chrono::nanoseconds keep_limits = std::chrono::hours(24);
  size_t max_kept_limits = 1000;
  /// How many devices are restored in parallel.
  int restore_parallelism = 16;

  // The agent's version, for GetStatus.
  std::string version;
  std::string target_socket;
  bool embedded_target = false;
  // All device types and crypto engines, for ListPlugins.
  std::vector<admin::v1::Plugin> plugins;
};

/// A thread-safe set that records when each member was added.
template <typename Name>
class SharedSet {
 public:
  void Add(const Name& name) {
    base::MutexLock lock(mutex_);
    names_.emplace(name, std::chrono::system_clock::now());
  }
  /// Returns when `name` was added, or nullopt if it is not a member.
  std::optional<record::Time> Since(const Name& name) const {
    base::MutexLock lock(mutex_);
    auto found = names_.find(name);
    return found == names_.end() ? std::nullopt : std::optional(found->second);
  }
  bool Contains(const Name& name) const {
    base::MutexLock lock(mutex_);
    return names_.contains(name);
  }
  void Remove(const Name& name) {
    base::MutexLock lock(mutex_);
    names_.erase(name);
  }
  std::set<Name> All() const {
    base::MutexLock lock(mutex_);
    std::set<Name> names;
    for (const auto& [name, since] : names_) names.insert(names.end(), name);
    return names;
  }

 private:
  mutable base::Mutex mutex_;
  std::map<Name, record::Time> names_ SMA_GUARDED_BY(mutex_);
};

/// The state that the parts of the core share.
struct Core {
  Options options;
  jsonrpc::Caller& target;
  std::unique_ptr<record::Record> record;
  device::Registry registry;
  LockTable locks;
  /// Volumes and devices whose limits on the target may differ from the record. A device is
  /// represented by its LimitsKeyOf.
  SharedSet<base::Uuid> unset_limits;
  std::unique_ptr<volume::Volumes> volumes;
  std::unique_ptr<volume::GoneVolumes> gone_volumes;
  std::unique_ptr<PathFacts> paths = std::make_unique<PathFacts>();
  /// Sends a volume to the watchers, after a change that is not in its row.
  std::function<void(const base::Uuid& volume)> publish_volume;
  /// Sends the status to the watchers, and to each watcher of one device that device with its
  /// volumes, after a change that concerns all objects.
  std::function<void()> publish_target;
  /// Makes the background check a device soon, for example if a call could not finish something.
  std::function<void(const std::string& handle)> wake_background;
  /// Returns UNAVAILABLE if the target is hung and calls to it are therefore pointless.
  std::function<absl::Status()> target_status;
  /// When the record was opened. Older rows were written by an earlier run of the agent.
  record::Time opened = std::chrono::system_clock::now();
};

/// Convert rows of the record to the form that device managers use.
DeviceSpec SpecOf(const record::Device& row);
DeviceVolume VolumeOf(const record::Volume& row);
/// Returns a volume that is not in the record.
DeviceVolume UnknownVolume(const base::Uuid& id);
std::vector<DeviceVolume> VolumesOf(const std::vector<record::Volume>& rows);

/// Returns the key of a device's own limits in the record, where limits are stored by volume id.
base::Uuid LimitsKeyOf(std::string_view device_handle);

/// Returns the manager of a device in the record, or FAILED_PRECONDITION if its type is not
/// enabled.
absl::StatusOr<DeviceManager*> ManagerOf(const Core& core, const record::Device& row);

/// Returns a NOT_FOUND error for a device that is not in the record.
absl::Status NoDeviceError(const std::string& handle);

/// Returns a row for a device that `manager` described.
record::Device NewDeviceRow(const DeviceManager& manager, const DeviceSpec& device,
                            record::DeviceState state);

/// Adds to `error`, the error of a removal that the record keeps as an intent, that the agent will
/// finish the removal, so that the caller does not conclude that it will not happen.
absl::Status WithPendingRemoval(const absl::Status& error);

/// Returns why a volume that is in the record for another device cannot be attached:
/// ALREADY_EXISTS, or UNAVAILABLE while it is being detached from that device.
absl::Status AttachedElsewhereError(const record::Volume& row);

/// Makes a background thread check the device soon if `error` may mean that the target differs from
/// the record: an object has disappeared or belongs to another owner.
void WakeIfDifferent(const Core& core, const std::string& handle, const absl::Status& error);

/// Add to `change` the removal of a row and of the device's limits; limits of a volume are kept as
/// those of a detached volume.
void AddRemoval(const Core& core, const record::Device& row, record::Change& change);
void AddRemoval(const Core& core, const record::Volume& row, record::Change& change);

/// Adds to `change` the limits of a volume that is now attached, so that they do not expire.
void AddLimits(const Core& core, const record::Volume& row, record::Change& change);

/// Returns `row` with a new state, entered now.
template <typename Row, typename State>
Row InState(Row row, State state) {
  row.state = state;
  row.state_since = std::chrono::system_clock::now();
  return row;
}

/// Returns `row` with `error` as its last error; OK clears it. The time of the last error changes
/// only when the kind of error changes, and then becomes the present time. There are three kinds:
/// no error; FAILED_PRECONDITION, the error of a volume without its key; and all other errors.
template <typename Row>
Row WithError(Row row, const absl::Status& error) {
  const absl::StatusCode before = row.last_error.code;
  const bool same_kind =
      (before == absl::StatusCode::kOk) == error.ok() &&
      absl::IsFailedPrecondition(error) == (before == absl::StatusCode::kFailedPrecondition);
  if (!same_kind) row.last_error.time = std::chrono::system_clock::now();
  row.last_error.code = error.code();
  row.last_error.message = std::string(error.message());
  return row;
}

}  // namespace sma::core
