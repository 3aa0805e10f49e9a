// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/plugin/python/call.h"
#include "base/mutex.h"
#include "sma/device_manager.h"

namespace sma::python {

/// A device type implemented by a Python class.
class PythonDeviceManager : public DeviceManager {
 public:
  /// Calls the plugin's `init` with `params`; if the target does not answer yet, Prepare calls
  /// `init` later. Returns INVALID_ARGUMENT for an unknown protocol, and errors of `init`.
  static absl::StatusOr<std::unique_ptr<DeviceManager>> Make(PluginObject object,
                                                             const std::string& protocol,
                                                             const nlohmann::json& params);

  std::string_view name() const override { return object_.name(); }
  std::string_view protocol() const override { return protocol_; }
  DeviceType type() const override { return type_; }
  bool OwnsHandle(std::string_view handle) const override;
  DeviceTraits traits() const override { return {.names_devices = true}; }
  bool deletes_with_volumes() const override;

  /// Derives the device's provisional name, used until the plugin has returned its handle, from the
  /// NQN of the subsystem or from the physical and virtual id.
  absl::StatusOr<DeviceSpec> Describe(const CreateDeviceRequest& request) const override;
  absl::Status Prepare(const base::Context& context) override;
  OutcomeOr<CreatedDevice> CreateDevice(const base::Context& context, const DeviceSpec& device,
                                        const DeviceVolume* volume) override;
  Outcome DeleteDevice(const base::Context& context, const DeviceSpec& device,
                       std::span<const DeviceVolume> volumes) override;
  OutcomeOr<std::string> AttachVolume(const base::Context& context, const DeviceSpec& device,
                                      const DeviceVolume& volume) override;
  Outcome DetachVolume(const base::Context& context, const DeviceSpec& device,
                       const DeviceVolume& volume) override;
  RestoreResult Restore(const base::Context& context, const RestoreRequest& request) override;
  Outcome SetQos(const base::Context& context, const DeviceSpec& device, const DeviceVolume* volume,
                 const QosLimit& maximum) override;
  absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
      const base::Context& context) const override;

  // Only the plugin knows its devices, so these methods find nothing and roll back nothing.
  absl::StatusOr<std::optional<ExistingDevice>> FindExisting(
      const base::Context& /*context*/, const DeviceSpec& /*device*/) override {
    return std::nullopt;
  }
  Outcome UndoCreate(const base::Context& /*context*/, const DeviceSpec& /*device*/,
                     const DeviceVolume* /*volume*/) override {
    return {};
  }
  absl::StatusOr<std::unique_ptr<DeviceListing>> List(const base::Context& /*context*/) override {
    return std::make_unique<DeviceListing>();
  }

 private:
  PythonDeviceManager(PluginObject object, std::string protocol, DeviceType type,
                      std::string params)
      : object_(std::move(object)),
        protocol_(std::move(protocol)),
        type_(type),
        params_(std::move(params)) {}

  absl::Status Init(const base::Context& context);
  absl::Status CheckInitialized() const;
  absl::Status Recreate(const base::Context& context, const RestoreRequest& request);
  void SetMade(const std::string& handle, uint64_t generation);
  bool IsMade(const std::string& handle, uint64_t generation) const;

  const PluginObject object_;
  const std::string protocol_;
  const DeviceType type_;
  const std::string params_;  // from the configuration, JSON

  mutable base::Mutex mutex_;
  // Generation of the connection on which `init` last succeeded; 0 if it never has.
  uint64_t initialized_generation_ SMA_GUARDED_BY(mutex_) = 0;
  absl::Status initialized_ SMA_GUARDED_BY(mutex_) = absl::UnavailableError("not initialized yet");
  /// The generation of the connection on which each device was last created.
  std::map<std::string, uint64_t, std::less<>> made_ SMA_GUARDED_BY(mutex_);
};

}  // namespace sma::python
