// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "devices/nvmf_common/subsystem_devices.h"
#include "devices/vfiouser/options.h"
#include "devices/vfiouser/vm_functions.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::vfiouser {

/// Devices that are NVMe controllers of a VM: a subsystem of the target with a VFIOUSER listener in
/// its own folder, plugged into the VM if a QEMU is configured. Volumes are namespaces.
class VfioUserManager : public DeviceManager {
 public:
  /// `target` must outlive the manager.
  VfioUserManager(jsonrpc::Caller& target, Options options)
      : target_(target),
        options_(std::move(options)),
        subsystems_(target, "vfiouser", {{"disable_msix", !options_.msix}}) {}

  std::string_view name() const override { return "vfiouser"; }
  std::string_view protocol() const override { return "nvme"; }
  DeviceType type() const override { return DEVICE_TYPE_NVME; }

  absl::StatusOr<DeviceSpec> Describe(const CreateDeviceRequest& request) const override;
  bool OwnsHandle(std::string_view handle) const override;
  std::string NeighbourOf(const DeviceSpec& device) const override;
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
  RestoreResult Restore(const base::Context& context, const RestoreRequest& request) override;
  Outcome SetQos(const base::Context& context, const DeviceSpec& device, const DeviceVolume* volume,
                 const QosLimit& maximum) override;
  absl::StatusOr<GetQosCapabilitiesResponse> GetQosCapabilities(
      const base::Context& context) const override;
  std::vector<AdoptionCandidate> ListAdoptionCandidates(
      const DeviceListing& listing, std::span<const std::string> known) const override;

 private:
  nvmf_common::SubsystemSpec SubsystemOf(const DeviceSpec& device) const;
  Outcome Undo(Outcome why, const DeviceSpec& device, bool made_folder, bool plugged);
  Outcome Remove(const base::Context& context, const DeviceSpec& device);
  absl::Status RemoveFolderOf(const base::Context& context, const DeviceSpec& device);
  absl::StatusOr<bool> IsListening(const base::Context& context, const RestoreRequest& request);
  absl::Status RestorePlug(const base::Context& context, const RestoreRequest& request,
                           bool was_listening, RestoreResult& result);

  jsonrpc::Caller& target_;
  const Options options_;
  nvmf_common::SubsystemDevices subsystems_;
  VmFunctions functions_{target_, options_};
};

}  // namespace sma::vfiouser
