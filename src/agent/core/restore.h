#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "agent/core/core.h"
#include "base/context.h"

namespace sma::core {

struct RestoreOptions {
  /// What the target had, and the revision of the record before it was asked; null: it is asked for
  /// this device.
  const DeviceListing* listing = nullptr;
  uint64_t listing_revision = 0;
  bool repair = true;
  bool expose_incomplete = true;
  /// Sets the limits of all volumes, also of those that were attached all the time.
  bool set_limits = false;
  /// Asks the target for the limits of all volumes that have any, and sets those that differ.
  bool compare_limits = false;
};

/// Compares a device and its volumes with the target, makes again what is missing, and keeps the
/// outcome in the record. Takes the device's lock. A device that is not ready is settled instead.
/// OK when nothing is missing any more.
absl::Status RestoreDevice(Core& core, const base::Context& context, const std::string& handle,
                           const RestoreOptions& options);

}  // namespace sma::core
