#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/uuid.h"
#include "sma.pb.h"

namespace sma::record {

using Time = std::chrono::system_clock::time_point;

/// The last thing that went wrong with an object; `code` OK: nothing did.
struct LastError {
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string message;
  Time time;

  friend bool operator==(const LastError&, const LastError&) = default;
};

// The numbers of states are on disk: they never change their meaning.

enum class DeviceState {
  kCreating = 1,  // may be on the target, whole or in part; was not answered with success
  kReady = 2,     // was answered with success; belongs on the target
  kDeleting = 3,  // may still be on the target; has to go
  kUndoing = 4,   // was answered with an error and may be on the target all the same; has to go
};

struct Device {
  std::string handle;
  std::string manager;         // name of the device manager that made it
  CreateDeviceRequest params;  // DeviceSpec::params
  std::string mark{};          // DeviceSpec::mark
  DeviceState state = DeviceState::kCreating;
  Time created;
  Time state_since;
  LastError last_error;
};

enum class VolumeState {
  kAttaching = 1,  // may be connected or attached; was not answered with success
  kAttached = 2,   // was answered with success; belongs on its device
  kDetaching = 3,  // may still be attached or connected; has to go
};

struct Volume {
  base::Uuid id;
  std::string device_handle;
  VolumeParameters params;  // as asked for, without keys and secrets
  std::string sealed;       // keys and secrets, encrypted; empty: none or not kept
  std::string bdev_name;    // what the device exports; empty: not yet known
  std::string attachment;   // the device manager's own, DeviceVolume::attachment
  std::string connection;   // volume::Volumes' own: what it uses on the target together with others
  VolumeState state = VolumeState::kAttaching;
  Time created;
  Time state_since;
  LastError last_error;
};

/// Whether both are connected in the same way, as far as the record knows.
bool SameConnection(const Volume& a, const Volume& b);

/// Limits of a volume, kept for some time also while it is not attached. A limit of 2^64-1 was
/// never set.
struct VolumeLimits {
  base::Uuid volume_id;  // or a UUID that stands for a device
  QosLimit limits;
  Time detached{};  // since when the volume is not attached; the epoch: it is, or was never removed
};

/// Rows to be written together. What is put replaces the row with the same key; what is removed may
/// be absent.
struct Change {
  std::vector<Device> put_devices;
  std::vector<std::string> remove_devices;  // handles
  std::vector<Volume> put_volumes;
  std::vector<base::Uuid> remove_volumes;  // ids
  std::vector<VolumeLimits> put_limits;
  std::vector<base::Uuid> remove_limits;  // of volumes
};

inline bool IsEmpty(const Change& change) {
  return change.put_devices.empty() && change.remove_devices.empty() &&
         change.put_volumes.empty() && change.remove_volumes.empty() && change.put_limits.empty() &&
         change.remove_limits.empty();
}

/// All that is kept.
struct Contents {
  std::vector<Device> devices;
  std::vector<Volume> volumes;
  std::vector<VolumeLimits> limits;
};

}  // namespace sma::record
