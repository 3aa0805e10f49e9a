// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/nvmf_common/subsystem_devices.h"
#include "jsonrpc/caller.h"
#include "nvmf_tcp.pb.h"
#include "sma/device_manager.h"

namespace sma::nvmf_tcp {

/// Devices that are NVMe-oF subsystems with one NVMe/TCP listener; volumes are namespaces.
class NvmfTcpManager : public DeviceManager {
 public:
  /// `target` must outlive the manager.
  explicit NvmfTcpManager(jsonrpc::Caller& target) : subsystems_(target, "tcp") {}

  std::string_view name() const override { return "nvmf_tcp"; }
  std::string_view protocol() const override { return "nvmf_tcp"; }
  DeviceType type() const override { return DEVICE_TYPE_NVMF_TCP; }

  absl::StatusOr<DeviceSpec> Describe(const CreateDeviceRequest& request) const override;
  bool OwnsHandle(std::string_view handle) const override;
  absl::Status Prepare(const base::Context& context) override;
  absl::StatusOr<std::optional<ExistingDevice>> FindExisting(const base::Context& context,
                                                             const DeviceSpec& device) override;
  OutcomeOr<CreatedDevice> CreateDevice(const base::Context& context, const DeviceSpec& device,
                                        const DeviceVolume* volume) override;
  Outcome UndoCreate(const base::Context& context, const DeviceSpec& device,
                     const DeviceVolume* volume) override;
  Outcome DeleteDevice(const base::Context& context, const DeviceSpec& device,
                       std::span<const DeviceVolume> volumes) override;
  OutcomeOr<std::string> AttachVolume(const base::Context& context, const DeviceSpec& device,
                                      const DeviceVolume& volume) override;
  DeviceTraits traits() const override { return {.takes_plans = true}; }
  Outcome DetachVolume(const base::Context& context, const DeviceSpec& device,
                       const DeviceVolume& volume) override;
  absl::StatusOr<std::unique_ptr<DeviceListing>> List(const base::Context& context) override;
  absl::StatusOr<std::unique_ptr<DeviceListing>> ListOf(
      const base::Context& context, std::span<const std::string> handles) override;
  uint64_t FingerprintOf(const DeviceListing& listing, std::string_view handle) const override;
  RestoreResult Restore(const base::Context& context, const RestoreRequest& request) override;
  Outcome SetQos(const base::Context& context, const DeviceSpec& device, const DeviceVolume* volume,
                 const QosLimit& maximum) override;
  absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
      const base::Context& context) const override;
  std::vector<AdoptionCandidate> ListAdoptionCandidates(
      const DeviceListing& listing, std::span<const std::string> known) const override;

 private:
  nvmf_common::SubsystemDevices subsystems_;
};

}  // namespace sma::nvmf_tcp
