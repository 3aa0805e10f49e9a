// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "absl/status/status.h"
#include "agent/core/core.h"
#include "base/context.h"
#include "sma/device_manager.h"

namespace sma::core {

/// The request of a CreateDevice call and what is needed to execute it. The caller holds the locks
/// of the device and the volume.
struct Creation {
  Core& core;
  const base::Context& context;
  DeviceManager& manager;
  DeviceSpec device;
  const VolumeRequest* volume;  // null: the request has no volume
};

/// Handles a repeated request for a device in the record: restores what is missing, and attaches
/// the volume if it is new. Returns ALREADY_EXISTS if the device has other parameters or volumes.
absl::Status RepeatCreate(const Creation& creation, const record::Device& row);

/// Returns true if a device of the record exists as requested. Shares the device's lock, so that a
/// repeated call neither waits for calls that attach volumes to the device nor makes others wait
/// for them. False means that the caller has to decide with the locks held. The caller holds none.
bool ExistsAsRequested(Core& core, const base::Context& context, DeviceManager& manager,
                       const DeviceSpec& device, const VolumeRequest* request);

/// Takes over a device that exists on the target as requested, but not in the record, with its
/// volumes. Returns ALREADY_EXISTS if it has other volumes than the requested one, and
/// FAILED_PRECONDITION if one of its volumes cannot be adopted.
absl::Status AdoptExisting(const Creation& creation, const ExistingDevice& existing);

/// Returns ALREADY_EXISTS, for a device that exists with volumes that were not requested.
absl::Status OtherVolumesError(const std::string& handle);

}  // namespace sma::core
