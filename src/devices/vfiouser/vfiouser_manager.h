// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/qmp/pci_buses.h"
#include "devices/nvmf_common/subsystem_devices.h"
#include "devices/pci_common/place.h"
#include "jsonrpc/caller.h"
#include "sma/device_manager.h"

namespace sma::vfiouser {

struct Options {
  qmp::Buses buses{{}, false};
  /// The folder that contains, for each device, a folder with the socket that the target and QEMU
  /// use.
  std::string socket_folder = "/var/tmp";
  /// If true, controllers have MSI-X instead of MSI. Applies only if the agent creates the
  /// transport; targets without this option (SPDK) ignore it.
  bool msix = false;
  /// How long a call waits for the guest to release a device.
  std::chrono::nanoseconds unplug_wait = std::chrono::seconds(8);
  /// If nothing has listened at QEMU's address for this time, the VM is treated as removed when a
  /// device is deleted.
  std::chrono::nanoseconds gone_after = std::chrono::seconds(30);
};

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
  std::string FolderOf(const DeviceSpec& device) const;
  nvmf_common::SubsystemSpec SubsystemOf(const DeviceSpec& device) const;
  absl::StatusOr<qmp::PciSlot> SlotOf(const DeviceSpec& device) const;

  // Implemented in vfiouser_manager.cc.
  Outcome Undo(Outcome why, const DeviceSpec& device, bool made_folder, bool plugged);
  Outcome Remove(const base::Context& context, const DeviceSpec& device);
  absl::Status RemoveFolderOf(const base::Context& context, const DeviceSpec& device);

  // Implemented in plug.cc; they concern the device in its VM.
  static absl::Status NotPluggedHere(const std::string& name);
  qmp::PciDevice FunctionOf(const DeviceSpec& device) const;
  absl::StatusOr<pci_common::PlugState> QueryPlug(const base::Context& context,
                                                  const DeviceSpec& device,
                                                  pci_common::Inventories& inventories) const;
  /// Plugs the device. If the VM already has a function with the device's name, the function is
  /// replaced if `is_recorded` is true, because it then belongs to the device; otherwise returns
  /// ALREADY_EXISTS. Sets `place` to the new DeviceSpec::place on success.
  Outcome Plug(const base::Context& context, const DeviceSpec& device, bool is_recorded,
               std::string& place);
  Outcome Release(const base::Context& context, const DeviceSpec& device);
  absl::Status CheckNotUsed(const base::Context& context, const DeviceSpec& device);
  static absl::Status Unplug(const base::Context& context, qmp::Client& vm,
                             const qmp::PciDevice& function, bool& was_there);

  // Implemented in restore.cc.
  absl::StatusOr<bool> IsListening(const base::Context& context, const RestoreRequest& request);
  absl::Status RestorePlug(const base::Context& context, const RestoreRequest& request,
                           bool was_listening, RestoreResult& result);

  jsonrpc::Caller& target_;
  const Options options_;
  nvmf_common::SubsystemDevices subsystems_;
};

}  // namespace sma::vfiouser
