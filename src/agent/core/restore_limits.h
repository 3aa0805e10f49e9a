// SPDX-License-Identifier: Apache-2.0

#pragma once

#include "agent/core/core.h"

namespace sma::core {

// The caller holds the lock of the device. The functions return the errors of the target.

/// Sets the volume's limits from the record: its bdev may be a new one without limits.
absl::Status RestoreLimits(Core& core, const base::Context& context, DeviceManager& manager,
                           const DeviceSpec& device, const DeviceVolume& volume);

/// Restores limits that another client has changed; without `repair`, returns UNAVAILABLE instead.
absl::Status CompareLimits(Core& core, const base::Context& context, DeviceManager& manager,
                           const DeviceSpec& device, const DeviceVolume& volume, bool repair);

/// Sets the limits of the device itself: always if `all` is set, otherwise only if they may differ
/// from the record.
absl::Status RestoreDeviceLimits(Core& core, const base::Context& context, DeviceManager& manager,
                                 const DeviceSpec& device, bool all);

}  // namespace sma::core
