#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/plugin/python/call.h"
#include "sma/device_manager.h"

namespace sma::python {

/// A device type of the agent's own, as a Python class that derives from it calls it: what the
/// agent's core does around a manager, without the record. It acts on the device and the volume
/// that the current call of the plugin is about.
class BuiltIn {
 public:
  explicit BuiltIn(std::unique_ptr<DeviceManager> manager) : manager_(std::move(manager)) {}

  /// Methods as spdk.sma.DeviceManager has them, with serialized requests and answers.
  /// FAILED_PRECONDITION: outside of a call of the agent.
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
