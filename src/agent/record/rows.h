// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/uuid.h"
#include "sma.pb.h"

namespace sma::record {

using Time = std::chrono::system_clock::time_point;

/// The last error of an object; `code` is OK if there was none.
struct LastError {
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string message;
  Time time;

  friend bool operator==(const LastError&, const LastError&) = default;
};

// The numbers of the states are stored on disk: never change their meaning.

enum class DeviceState {
  kCreating = 1,  // no success reported; may exist on the target, completely or in part
  kReady = 2,     // success reported; has to exist on the target
  kDeleting = 3,  // being deleted; may still exist on the target, has to be removed
  kUndoing = 4,   // creation failed; may exist on the target, has to be removed
};

struct Device {
  std::string handle;
  std::string manager;         // name of the device manager that created it
  CreateDeviceRequest params;  // DeviceSpec::params
  std::string mark{};          // DeviceSpec::mark
  std::string place{};         // DeviceSpec::place
  DeviceState state = DeviceState::kCreating;
  Time created;
  Time state_since;
  LastError last_error;
};

enum class VolumeState {
  kAttaching = 1,  // no success reported; may be connected or attached
  kAttached = 2,   // success reported; has to be attached to its device
  kDetaching = 3,  // being detached; may still be attached or connected, has to be released
};

struct Volume {
  base::Uuid id;
  std::string device_handle;
  VolumeParameters params;  // as requested, without keys and secrets
  std::string sealed;       // encrypted keys and secrets; empty: none, or not kept
  std::string bdev_name;    // the bdev that the device exports; empty: not yet known
  std::string attachment;   // opaque; DeviceVolume::attachment of the device manager
  std::string connection;   // written by volume::Volumes: the shared connections it uses
  std::string layer_key{};  // the key of an adopted crypto bdev; empty: none, or the agent's own
  VolumeState state = VolumeState::kAttaching;
  Time created;
  Time state_since;
  LastError last_error;
};

/// Returns true if the rows describe the same connection, bdev, parameters and sealed secrets.
bool SameConnection(const Volume& a, const Volume& b);

/// Limits of a volume, which are kept for some time after it was detached. A limit of 2^64-1 was
/// never set.
struct VolumeLimits {
  base::Uuid volume_id;  // or a UUID derived from a device's handle
  QosLimit limits;
  Time detached{};  // when it was detached; the epoch: attached, or never detached
};

/// Rows to be written in one transaction. A put replaces the row with the same key; a row to be
/// removed need not exist.
struct Change {
  std::vector<Device> put_devices;
  std::vector<std::string> remove_devices;  // handles
  std::vector<Volume> put_volumes;
  std::vector<base::Uuid> remove_volumes;  // ids
  std::vector<VolumeLimits> put_limits;
  std::vector<base::Uuid> remove_limits;  // ids of the volumes
};

inline bool IsEmpty(const Change& change) {
  return change.put_devices.empty() && change.remove_devices.empty() &&
         change.put_volumes.empty() && change.remove_volumes.empty() && change.put_limits.empty() &&
         change.remove_limits.empty();
}

/// All rows of the record.
struct Contents {
  std::vector<Device> devices;
  std::vector<Volume> volumes;
  std::vector<VolumeLimits> limits;
};

}  // namespace sma::record
