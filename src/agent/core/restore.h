// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>

#include "absl/status/status.h"
#include "agent/core/core.h"
#include "base/context.h"

namespace sma::core {

/// What RestoreDevice found and did.
struct RestoreFindings {
  /// True if nothing had to be changed, and if later changes can be detected from the target's
  /// listing and the record alone, because no volume is remote or encrypted.
  bool is_plain_and_same = false;
  /// True if the limits of all attached volumes were set.
  bool are_limits_set = false;
};

struct RestoreOptions {
  /// The state of the target, and the record's revision before it was queried; if null, the device
  /// is queried separately.
  const DeviceListing* listing = nullptr;
  uint64_t listing_revision = 0;
  bool repair = true;
  bool expose_incomplete = true;
  /// Sets the limits of all volumes, including those that were not attached again.
  bool set_limits = false;
  /// Queries the limits of all volumes that have any, and sets those that differ.
  bool compare_limits = false;
  /// How long to wait for calls that hold the device's lock. Callers queued behind this one wait as
  /// long.
  std::chrono::nanoseconds lock_time = std::chrono::nanoseconds::max();
  /// Receives the findings; may be null.
  RestoreFindings* findings = nullptr;
};

/// The result of restoring the connection of a volume.
struct Connected {
  absl::Status status;
  bool may_export = true;  // false: the bdev of the row may belong to somebody else
};

/// Restores the connection and the layer of an attached volume, and writes changes of its row. The
/// caller holds the lock of its device.
Connected RestoreConnection(Core& core, const base::Context& context, record::Volume& row);

/// Compares a device and its volumes with the target, recreates what is missing, and writes the
/// result to the record. Takes the device's lock. Settles a device that is not ready instead.
/// Returns OK if nothing is missing afterwards.
absl::Status RestoreDevice(Core& core, const base::Context& context, const std::string& handle,
                           const RestoreOptions& options);

/// Returns true if a device has no volumes, no limits and no parameters: an AttachVolume added it
/// because its type knows it, and its volumes are gone or were never attached.
bool IsUnused(const Core& core, const std::string& handle);

/// Removes a device that IsUnused from the record. The caller holds its lock.
absl::Status RemoveUnusedDevice(Core& core, const std::string& handle);

}  // namespace sma::core
