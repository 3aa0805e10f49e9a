// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/plugin/python/call.h"
#include "sma/device_manager.h"

namespace sma::python {

/// Lets a Python class derive from a built-in device type: performs the steps that the agent's core
/// performs around a manager, but without the record. It operates on the device and the volume of
/// the plugin's current call.
class BuiltIn {
 public:
  explicit BuiltIn(std::unique_ptr<DeviceManager> manager) : manager_(std::move(manager)) {}

  /// Runs a method of spdk.sma.DeviceManager, with a serialized request and response. Returns
  /// FAILED_PRECONDITION outside a call from the agent.
  absl::StatusOr<std::string> Run(const std::string& method, const std::string& request);

 private:
  absl::StatusOr<std::string> CreateDevice(const Call& call, const CreateDeviceRequest& request);
  absl::Status DeleteDevice(const Call& call, const DeleteDeviceRequest& request);
  absl::Status AttachVolume(const Call& call, const AttachVolumeRequest& request);
  absl::Status DetachVolume(const Call& call, const DetachVolumeRequest& request);
  absl::Status SetQos(const Call& call, const SetQosRequest& request);
  absl::StatusOr<DeviceVolume> VolumeForQos(const Call& call, const DeviceSpec& device,
                                            const std::string& id);
  absl::StatusOr<DeviceSpec> DeviceOf(const Call& call, const std::string& handle) const;

  const std::unique_ptr<DeviceManager> manager_;
};

}  // namespace sma::python
