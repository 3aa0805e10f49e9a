// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/spdk/vhost.h"
#include "devices/pci_common/place.h"
#include "sma/device_manager.h"

namespace sma::vhost_blk {

/// What the target and the VMs show of a device and its volume.
struct DeviceState {
  std::optional<spdk::VhostController> controller;
  /// The name of the volume's bdev; nullopt if it does not exist.
  std::optional<std::string> bdev_name;
  std::string attachment;  // the recorded attachment; empty if unknown
  absl::StatusOr<pci_common::PlugState> plug;
};

/// Returns true if another client created a controller with this name: it has a bdev other than the
/// volume's. If the volume's bdev no longer exists, its name at the controller's creation is
/// compared.
bool IsReplaced(const DeviceState& state);

/// Returns how the device differs from the record, for RestoreResult::differences.
std::vector<std::string> Differences(const DeviceSpec& device, const DeviceState& state);

/// Sets the status and the attachments of `result`, which has an entry for each volume. `error` is
/// that of the repair, or OK.
void SetResults(const RestoreRequest& request, const absl::StatusOr<DeviceState>& state,
                const absl::Status& error, RestoreResult& result);

}  // namespace sma::vhost_blk
